-- What a session's ticks say: its engagement, its anomalies, and its summary.
--
-- In every table here and below:
--   * the primary key contains the time column, as a hypertable's unique keys must; the writer upserts by it;
--   * ids are compared byte by byte (COLLATE "C"): they are names, not words, and this is also the quickest;
--   * a time on the wire is milliseconds since 1970 UTC, a column of it is timestamptz;
--   * a closed set of words is plain text: a newer release may add a word before the database is migrated, and a
--     refused row would help nobody. What no release may change (a ratio lies in 0..1) is checked.

CREATE TABLE engagement_metrics (
    id                     text COLLATE "C" NOT NULL,
    tenant_id              text COLLATE "C" NOT NULL,
    session_id             text COLLATE "C" NOT NULL,
    ts                     timestamptz NOT NULL,
    session_start          timestamptz NOT NULL,
    score                  double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    category               text COLLATE "C" NOT NULL,
    chat_per_min           bigint NOT NULL CHECK (chat_per_min >= 0),
    reactions_per_min      bigint NOT NULL CHECK (reactions_per_min >= 0),
    connected_users        bigint NOT NULL CHECK (connected_users >= 0),
    active_users           bigint NOT NULL CHECK (active_users >= 0),
    active_ratio           double precision NOT NULL CHECK (active_ratio BETWEEN 0 AND 1),
    poll_participation     double precision NOT NULL CHECK (poll_participation BETWEEN 0 AND 1),
    leave_rate             double precision NOT NULL CHECK (leave_rate BETWEEN 0 AND 1),
    contribution_chat      double precision NOT NULL,
    contribution_poll      double precision NOT NULL,
    contribution_active    double precision NOT NULL,
    contribution_reactions double precision NOT NULL,
    contribution_leaves    double precision NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_session_time ON engagement_metrics (tenant_id, session_id, ts DESC);
CREATE INDEX idx_engagement_score ON engagement_metrics (tenant_id, ts DESC, score);

COMMENT ON TABLE engagement_metrics IS 'One row for each session and tick (every 5 s): the engagement over the 60 s before ts.';
COMMENT ON COLUMN engagement_metrics.id IS 'Derived from session, its start and tick; the same in every run.';
COMMENT ON COLUMN engagement_metrics.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN engagement_metrics.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN engagement_metrics.ts IS 'The tick T, event time; a multiple of 5 s. The row covers [T - 60 s, T).';
COMMENT ON COLUMN engagement_metrics.session_start IS 'The session''s first event; tells apart two sessions of the same session_id.';
COMMENT ON COLUMN engagement_metrics.score IS 'Engagement, 0..1: the sum of the contributions, clamped.';
COMMENT ON COLUMN engagement_metrics.category IS 'VERY_HIGH (from 0.8), HIGH (0.6), MODERATE (0.4), LOW (0.2) or VERY_LOW, with the default boundaries.';
COMMENT ON COLUMN engagement_metrics.chat_per_min IS 'Chat messages in the 60 s, count from 0.';
COMMENT ON COLUMN engagement_metrics.reactions_per_min IS 'Reactions in the 60 s, count from 0.';
COMMENT ON COLUMN engagement_metrics.connected_users IS 'Users present at T, count from 0.';
COMMENT ON COLUMN engagement_metrics.active_users IS 'Distinct users who acted in the 60 s, count from 0.';
COMMENT ON COLUMN engagement_metrics.active_ratio IS 'Active users / users present or active, 0..1; 0 when nobody was there.';
COMMENT ON COLUMN engagement_metrics.poll_participation IS 'Voters of the running poll / users present when it began, 0..1; 0 when none runs.';
COMMENT ON COLUMN engagement_metrics.leave_rate IS 'Users who left and stayed away / users present at any time in the 60 s, 0..1.';
COMMENT ON COLUMN engagement_metrics.contribution_chat IS 'What chat adds to the score, 0..0.30 with the default weights.';
COMMENT ON COLUMN engagement_metrics.contribution_poll IS 'What the poll adds to the score, 0..0.25 with the default weights.';
COMMENT ON COLUMN engagement_metrics.contribution_active IS 'What the active ratio adds to the score, 0..0.25 with the default weights.';
COMMENT ON COLUMN engagement_metrics.contribution_reactions IS 'What reactions add to the score, 0..0.10 with the default weights.';
COMMENT ON COLUMN engagement_metrics.contribution_leaves IS 'What leaving takes from the score, -0.10..0 with the default weights.';

CREATE TABLE anomalies (
    id                    text COLLATE "C" NOT NULL,
    tenant_id             text COLLATE "C" NOT NULL,
    session_id            text COLLATE "C" NOT NULL,
    ts                    timestamptz NOT NULL,
    session_start         timestamptz NOT NULL,
    anomaly_type          text COLLATE "C" NOT NULL,
    severity              text COLLATE "C" NOT NULL,
    state                 text COLLATE "C" NOT NULL,
    score                 double precision NOT NULL CHECK (score BETWEEN 0 AND 1),
    current               double precision NOT NULL,
    expected              double precision NOT NULL,
    deviation             double precision NOT NULL,
    detector_trees        double precision NOT NULL CHECK (detector_trees BETWEEN 0 AND 1),
    detector_z            double precision NOT NULL CHECK (detector_z BETWEEN 0 AND 1),
    detector_trees_weight double precision NOT NULL CHECK (detector_trees_weight BETWEEN 0 AND 1),
    chat_per_min          bigint NOT NULL CHECK (chat_per_min >= 0),
    reactions_per_min     bigint NOT NULL CHECK (reactions_per_min >= 0),
    connected_users       bigint NOT NULL CHECK (connected_users >= 0),
    active_users          bigint NOT NULL CHECK (active_users >= 0),
    active_ratio          double precision NOT NULL CHECK (active_ratio BETWEEN 0 AND 1),
    poll_participation    double precision NOT NULL CHECK (poll_participation BETWEEN 0 AND 1),
    leave_rate            double precision NOT NULL CHECK (leave_rate BETWEEN 0 AND 1),
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_anomaly_session ON anomalies (tenant_id, session_id, ts DESC);
CREATE INDEX idx_anomaly_severity ON anomalies (tenant_id, severity, ts DESC);

COMMENT ON TABLE anomalies IS 'Departures of a session from its own baseline: one row when raised, one when resolved.';
COMMENT ON COLUMN anomalies.id IS 'Derived from session, its start, type, tick and state; the same in every run.';
COMMENT ON COLUMN anomalies.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN anomalies.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN anomalies.ts IS 'The tick at which it was raised or resolved, event time; a multiple of 5 s.';
COMMENT ON COLUMN anomalies.session_start IS 'The session''s first event; tells apart two sessions of the same session_id.';
COMMENT ON COLUMN anomalies.anomaly_type IS 'MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP or GRADUAL_DECLINE.';
COMMENT ON COLUMN anomalies.severity IS 'WARNING or CRITICAL.';
COMMENT ON COLUMN anomalies.state IS 'raised or resolved.';
COMMENT ON COLUMN anomalies.score IS 'How anomalous, 0..1: the detector''s two halves combined.';
COMMENT ON COLUMN anomalies.current IS 'What was seen at ts: the score without its poll term, or for MASS_EXIT what the detector compared.';
COMMENT ON COLUMN anomalies.expected IS 'What the session''s own baseline made expect, in the unit of current.';
COMMENT ON COLUMN anomalies.deviation IS 'expected - current.';
COMMENT ON COLUMN anomalies.detector_trees IS 'The half-space trees'' verdict, 0..1.';
COMMENT ON COLUMN anomalies.detector_z IS 'The statistical half''s verdict, 0..1; 1 is three deviations and more.';
COMMENT ON COLUMN anomalies.detector_trees_weight IS 'The weight of the trees in score, 0..1; 0 while they are cold.';
COMMENT ON COLUMN anomalies.chat_per_min IS 'Chat messages in the 60 s, count from 0.';
COMMENT ON COLUMN anomalies.reactions_per_min IS 'Reactions in the 60 s, count from 0.';
COMMENT ON COLUMN anomalies.connected_users IS 'Users present at ts, count from 0.';
COMMENT ON COLUMN anomalies.active_users IS 'Distinct users who acted in the 60 s, count from 0.';
COMMENT ON COLUMN anomalies.active_ratio IS 'Active users / users present or active, 0..1; 0 when nobody was there.';
COMMENT ON COLUMN anomalies.poll_participation IS 'Voters of the running poll / users present when it began, 0..1; 0 when none runs.';
COMMENT ON COLUMN anomalies.leave_rate IS 'Users who left and stayed away / users present at any time in the 60 s, 0..1.';

CREATE TABLE sessions (
    id             text COLLATE "C" NOT NULL,
    tenant_id      text COLLATE "C" NOT NULL,
    session_id     text COLLATE "C" NOT NULL,
    ts             timestamptz NOT NULL,
    session_start  timestamptz NOT NULL,
    ended_by       text COLLATE "C" NOT NULL,
    duration_ms    bigint NOT NULL CHECK (duration_ms >= 0),
    events         bigint NOT NULL CHECK (events >= 0),
    chat_messages  bigint NOT NULL CHECK (chat_messages >= 0),
    reactions      bigint NOT NULL CHECK (reactions >= 0),
    votes          bigint NOT NULL CHECK (votes >= 0),
    telemetry      bigint NOT NULL CHECK (telemetry >= 0),
    joins          bigint NOT NULL CHECK (joins >= 0),
    leaves         bigint NOT NULL CHECK (leaves >= 0),
    users          bigint NOT NULL CHECK (users >= 0),
    peak_connected bigint NOT NULL CHECK (peak_connected >= 0),
    ticks          bigint NOT NULL CHECK (ticks >= 0),
    score_mean     double precision CHECK (score_mean BETWEEN 0 AND 1),
    score_peak     double precision CHECK (score_peak BETWEEN 0 AND 1),
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_sessions_session ON sessions (tenant_id, session_id, session_start DESC);
CREATE INDEX idx_sessions_time ON sessions (tenant_id, ts DESC);

COMMENT ON TABLE sessions IS 'One row for each session that ended.';
COMMENT ON COLUMN sessions.id IS 'Derived from session and its start; the same in every run.';
COMMENT ON COLUMN sessions.tenant_id IS 'Whose session it was.';
COMMENT ON COLUMN sessions.session_id IS 'The session; unique within its tenant, but may be used again.';
COMMENT ON COLUMN sessions.ts IS 'When it ended, event time.';
COMMENT ON COLUMN sessions.session_start IS 'Its first event.';
COMMENT ON COLUMN sessions.ended_by IS 'idle (30 minutes without an event) or ended (by its own event).';
COMMENT ON COLUMN sessions.duration_ms IS 'How long it lasted, milliseconds from 0.';
COMMENT ON COLUMN sessions.events IS 'Events that counted, count from 0.';
COMMENT ON COLUMN sessions.chat_messages IS 'Chat messages, count from 0.';
COMMENT ON COLUMN sessions.reactions IS 'Reactions, count from 0.';
COMMENT ON COLUMN sessions.votes IS 'Votes in polls, count from 0.';
COMMENT ON COLUMN sessions.telemetry IS 'Telemetry events, count from 0.';
COMMENT ON COLUMN sessions.joins IS 'Joins, count from 0.';
COMMENT ON COLUMN sessions.leaves IS 'Leaves, count from 0.';
COMMENT ON COLUMN sessions.users IS 'Distinct users, count from 0.';
COMMENT ON COLUMN sessions.peak_connected IS 'The most users present at a tick, count from 0.';
COMMENT ON COLUMN sessions.ticks IS 'Ticks (5 s each) that were scored, count from 0.';
COMMENT ON COLUMN sessions.score_mean IS 'Mean engagement score over its ticks, 0..1; null without a tick.';
COMMENT ON COLUMN sessions.score_peak IS 'Highest engagement score of its ticks, 0..1; null without a tick.';
