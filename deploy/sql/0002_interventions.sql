-- From an emotion to an intervention, and what became of it.

CREATE TABLE emotions (
    id         text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    ts         timestamptz NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    emotion    text COLLATE "C" NOT NULL,
    confidence double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    rule       text COLLATE "C" NOT NULL,
    evidence   text[] NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_emotion_session ON emotions (tenant_id, session_id, ts DESC);
CREATE INDEX idx_emotion_user ON emotions (tenant_id, user_id, ts DESC);
CREATE INDEX idx_emotion_kind ON emotions (tenant_id, emotion, ts DESC);

COMMENT ON TABLE emotions IS 'One row for each emotion diagnosed in a user''s telemetry, or taken over from another system.';
COMMENT ON COLUMN emotions.id IS 'Derived from session, user, rule and the event that completed it; the same in every run.';
COMMENT ON COLUMN emotions.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN emotions.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN emotions.ts IS 'When the rule was met, event time.';
COMMENT ON COLUMN emotions.user_id IS 'Who showed it.';
COMMENT ON COLUMN emotions.emotion IS 'Its name, such as frustration or price_shock.';
COMMENT ON COLUMN emotions.confidence IS 'How sure the rule is, 0..1.';
COMMENT ON COLUMN emotions.rule IS 'The rule that found it.';
COMMENT ON COLUMN emotions.evidence IS 'The event_ids it rests on, oldest first.';

CREATE TABLE interventions (
    id           text COLLATE "C" NOT NULL,
    tenant_id    text COLLATE "C" NOT NULL,
    session_id   text COLLATE "C" NOT NULL,
    ts           timestamptz NOT NULL,
    intervention text COLLATE "C" NOT NULL,
    recipient    text COLLATE "C" NOT NULL,
    user_id      text COLLATE "C",
    trigger_kind text COLLATE "C" NOT NULL,
    trigger_id   text COLLATE "C" NOT NULL,
    confidence   double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    priority     text COLLATE "C" NOT NULL,
    status       text COLLATE "C" NOT NULL,
    reason       text COLLATE "C",
    content      jsonb,
    expires_ts   timestamptz,
    revision     bigint NOT NULL CHECK (revision >= 0),
    PRIMARY KEY (id, revision, ts)
);

CREATE INDEX idx_intervention_session ON interventions (tenant_id, session_id, ts DESC);
CREATE INDEX idx_intervention_status ON interventions (tenant_id, status, ts DESC);

COMMENT ON TABLE interventions IS 'The ledger: every decision to act or not, and every change of its status. The current state of an intervention is its row of the highest revision.';
COMMENT ON COLUMN interventions.id IS 'Derived from session, trigger and intervention; the same for all revisions and in every run.';
COMMENT ON COLUMN interventions.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN interventions.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN interventions.ts IS 'When it got this status, event time.';
COMMENT ON COLUMN interventions.intervention IS 'What is done, such as discount_modal or poll.';
COMMENT ON COLUMN interventions.recipient IS 'Whom cooldown and rate limit are counted for: a user (trigger emotion) or the session (trigger anomaly).';
COMMENT ON COLUMN interventions.user_id IS 'The user it is for; null when it is for the whole session.';
COMMENT ON COLUMN interventions.trigger_kind IS 'emotion or anomaly.';
COMMENT ON COLUMN interventions.trigger_id IS 'The id in emotions or anomalies that it answers to.';
COMMENT ON COLUMN interventions.confidence IS 'How sure the trigger is, 0..1.';
COMMENT ON COLUMN interventions.priority IS 'LOW, MEDIUM, HIGH or CRITICAL.';
COMMENT ON COLUMN interventions.status IS 'fired, suppressed, pending (waits for approval), refused or expired.';
COMMENT ON COLUMN interventions.reason IS 'Why not: disabled, low_confidence, quiet_hours, cooldown, rate_limit, budget, outranked, holdout or approval; null when fired.';
COMMENT ON COLUMN interventions.content IS 'What the client shows; its shape depends on the intervention.';
COMMENT ON COLUMN interventions.expires_ts IS 'Until when it may be shown or approved; null if always.';
COMMENT ON COLUMN interventions.revision IS 'Counts the changes of status, from 0.';

CREATE TABLE intervention_outcomes (
    id              text COLLATE "C" NOT NULL,
    tenant_id       text COLLATE "C" NOT NULL,
    session_id      text COLLATE "C" NOT NULL,
    ts              timestamptz NOT NULL,
    intervention_id text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    outcome         text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_outcome_intervention ON intervention_outcomes (intervention_id, ts);
CREATE INDEX idx_outcome_time ON intervention_outcomes (tenant_id, ts DESC);

COMMENT ON TABLE intervention_outcomes IS 'What became of interventions; several rows for each as it goes on.';
COMMENT ON COLUMN intervention_outcomes.id IS 'Derived from session, intervention and event; the same in every run.';
COMMENT ON COLUMN intervention_outcomes.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN intervention_outcomes.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN intervention_outcomes.ts IS 'When it happened, event time.';
COMMENT ON COLUMN intervention_outcomes.intervention_id IS 'The id in interventions.';
COMMENT ON COLUMN intervention_outcomes.user_id IS 'Whose reaction it is.';
COMMENT ON COLUMN intervention_outcomes.outcome IS 'delivered, shown, clicked, dismissed, converted or failed.';

CREATE TABLE agent_performance (
    id              text COLLATE "C" NOT NULL,
    tenant_id       text COLLATE "C" NOT NULL,
    session_id      text COLLATE "C" NOT NULL,
    ts              timestamptz NOT NULL,
    intervention_id text COLLATE "C" NOT NULL,
    intervention    text COLLATE "C" NOT NULL,
    trigger_kind    text COLLATE "C" NOT NULL,
    trigger_id      text COLLATE "C" NOT NULL,
    score_before    double precision NOT NULL CHECK (score_before BETWEEN 0 AND 1),
    score_after     double precision NOT NULL CHECK (score_after BETWEEN 0 AND 1),
    reward          double precision NOT NULL CHECK (reward BETWEEN 0 AND 1),
    holdout         boolean NOT NULL,
    converted       boolean NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_agent_performance ON agent_performance (tenant_id, intervention, ts DESC);
CREATE INDEX idx_agent_performance_session ON agent_performance (tenant_id, session_id, ts DESC);
CREATE INDEX idx_agent_performance_intervention ON agent_performance (intervention_id);

COMMENT ON TABLE agent_performance IS 'How the engagement score moved in the 60 s after an intervention, held-out ones included for comparison.';
COMMENT ON COLUMN agent_performance.id IS 'Derived from the intervention; the same in every run.';
COMMENT ON COLUMN agent_performance.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN agent_performance.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN agent_performance.ts IS 'When the effect was measured, event time: 60 s after the firing, or at a conversion.';
COMMENT ON COLUMN agent_performance.intervention_id IS 'The id in interventions.';
COMMENT ON COLUMN agent_performance.intervention IS 'What was done, such as discount_modal or poll.';
COMMENT ON COLUMN agent_performance.trigger_kind IS 'emotion or anomaly.';
COMMENT ON COLUMN agent_performance.trigger_id IS 'The id in emotions or anomalies that it answered to.';
COMMENT ON COLUMN agent_performance.score_before IS 'The session''s score at the firing, 0..1.';
COMMENT ON COLUMN agent_performance.score_after IS 'The session''s score 60 s later, 0..1.';
COMMENT ON COLUMN agent_performance.reward IS '0..1: min(rise / 0.2, 1) for a rise, 0.5 for a fall of at most 0.05, else 0; 1 for a conversion.';
COMMENT ON COLUMN agent_performance.holdout IS 'True if the recipient was held out, so that nothing was shown.';
COMMENT ON COLUMN agent_performance.converted IS 'True if the recipient converted.';
