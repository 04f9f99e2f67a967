-- How chat answers were judged and routed, who was called for help, and how often that was right.

CREATE TABLE orchestrator_decisions (
    id              text COLLATE "C" NOT NULL,
    tenant_id       text COLLATE "C" NOT NULL,
    session_id      text COLLATE "C" NOT NULL,
    ts              timestamptz NOT NULL,
    conversation_id text COLLATE "C" NOT NULL,
    agent_id        text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    path            text COLLATE "C" NOT NULL,
    letter          text COLLATE "C" NOT NULL,
    action          text COLLATE "C" NOT NULL,
    confidence      double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    level           text COLLATE "C" NOT NULL,
    signals         jsonb NOT NULL,
    similarity      double precision NOT NULL CHECK (similarity BETWEEN 0 AND 1),
    novelty         double precision NOT NULL CHECK (novelty BETWEEN 0 AND 1),
    complexity      double precision NOT NULL CHECK (complexity BETWEEN 0 AND 1),
    reason          text COLLATE "C" NOT NULL,
    answer          text,
    canonical_id    text COLLATE "C",
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_decision_session ON orchestrator_decisions (tenant_id, session_id, ts DESC);
CREATE INDEX idx_decision_agent ON orchestrator_decisions (tenant_id, agent_id, ts DESC);
CREATE INDEX idx_decision_conversation ON orchestrator_decisions (tenant_id, conversation_id, ts);

COMMENT ON TABLE orchestrator_decisions IS 'One row for each answer of a chat agent: how sure it was and where it went.';
COMMENT ON COLUMN orchestrator_decisions.id IS 'Derived from session and event; the same in every run.';
COMMENT ON COLUMN orchestrator_decisions.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN orchestrator_decisions.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN orchestrator_decisions.ts IS 'When the answer was given, event time.';
COMMENT ON COLUMN orchestrator_decisions.conversation_id IS 'The conversation it belongs to.';
COMMENT ON COLUMN orchestrator_decisions.agent_id IS 'The agent (bot) that answered.';
COMMENT ON COLUMN orchestrator_decisions.user_id IS 'The person who asked.';
COMMENT ON COLUMN orchestrator_decisions.path IS 'auto_answer, clarify, canonical, escalate, queue or refuse.';
COMMENT ON COLUMN orchestrator_decisions.letter IS 'The path''s letter, A to F in that order.';
COMMENT ON COLUMN orchestrator_decisions.action IS 'immediate_escalation, suggest_review, send_with_disclaimer or continue.';
COMMENT ON COLUMN orchestrator_decisions.confidence IS 'Confidence in the answer, 0..1: the weighted mean of its signals.';
COMMENT ON COLUMN orchestrator_decisions.level IS 'HIGH (from 0.8), MEDIUM (0.6), LOW (0.4) or VERY_LOW.';
COMMENT ON COLUMN orchestrator_decisions.signals IS 'The signals behind confidence: a list of {name, score 0..1, reason}.';
COMMENT ON COLUMN orchestrator_decisions.similarity IS 'Best similarity of what was retrieved or prepared, 0..1.';
COMMENT ON COLUMN orchestrator_decisions.novelty IS '1 - similarity, 0..1.';
COMMENT ON COLUMN orchestrator_decisions.complexity IS 'Complexity of the question, 0..1.';
COMMENT ON COLUMN orchestrator_decisions.reason IS 'Why this path was taken.';
COMMENT ON COLUMN orchestrator_decisions.answer IS 'The text that goes on to the person; null when it is withheld.';
COMMENT ON COLUMN orchestrator_decisions.canonical_id IS 'The prepared answer that was used; null when none was.';

CREATE TABLE handoffs (
    id               text COLLATE "C" NOT NULL,
    tenant_id        text COLLATE "C" NOT NULL,
    session_id       text COLLATE "C" NOT NULL,
    ts               timestamptz NOT NULL,
    conversation_id  text COLLATE "C" NOT NULL,
    user_id          text COLLATE "C" NOT NULL,
    agent_id         text COLLATE "C" NOT NULL,
    reason           text COLLATE "C" NOT NULL,
    confidence_score double precision NOT NULL CHECK (confidence_score BETWEEN 0 AND 1),
    confidence_level text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_handoff_session ON handoffs (tenant_id, session_id, ts DESC);
CREATE INDEX idx_handoff_conversation ON handoffs (tenant_id, conversation_id, ts);
CREATE INDEX idx_handoff_time ON handoffs (tenant_id, ts DESC);

COMMENT ON TABLE handoffs IS 'One row for each time a person was called into a conversation.';
COMMENT ON COLUMN handoffs.id IS 'Derived from session and event; the same in every run.';
COMMENT ON COLUMN handoffs.tenant_id IS 'Whose session it is.';
COMMENT ON COLUMN handoffs.session_id IS 'The session; unique within its tenant.';
COMMENT ON COLUMN handoffs.ts IS 'When the answer that led to it was given, event time.';
COMMENT ON COLUMN handoffs.conversation_id IS 'The conversation that needs a person.';
COMMENT ON COLUMN handoffs.user_id IS 'The person who asked.';
COMMENT ON COLUMN handoffs.agent_id IS 'The agent (bot) that answered.';
COMMENT ON COLUMN handoffs.reason IS 'low_confidence, requested, novel, complex or no_context.';
COMMENT ON COLUMN handoffs.confidence_score IS 'Confidence in the answer, 0..1.';
COMMENT ON COLUMN handoffs.confidence_level IS 'HIGH (from 0.8), MEDIUM (0.6), LOW (0.4) or VERY_LOW.';

CREATE TABLE calibration (
    id                         text COLLATE "C" NOT NULL,
    tenant_id                  text COLLATE "C" NOT NULL,
    session_id                 text COLLATE "C" NOT NULL,
    ts                         timestamptz NOT NULL,
    resolved                   bigint NOT NULL CHECK (resolved >= 0),
    needed                     bigint NOT NULL CHECK (needed >= 0),
    brier                      double precision NOT NULL,
    expected_calibration_error double precision NOT NULL,
    thresholds                 jsonb NOT NULL,
    PRIMARY KEY (id, ts)
);

CREATE INDEX idx_calibration_time ON calibration (tenant_id, ts DESC);

COMMENT ON TABLE calibration IS 'How well confidence foretold whether a hand-off was needed, from time to time for each tenant.';
COMMENT ON COLUMN calibration.id IS 'Derived from tenant and time; the same in every run.';
COMMENT ON COLUMN calibration.tenant_id IS 'The tenant.';
COMMENT ON COLUMN calibration.session_id IS 'Always empty: it is about the tenant.';
COMMENT ON COLUMN calibration.ts IS 'Up to when hand-offs are counted, event time.';
COMMENT ON COLUMN calibration.resolved IS 'Hand-offs that were resolved, count from 0.';
COMMENT ON COLUMN calibration.needed IS 'Those of them that were needed, count from 0.';
COMMENT ON COLUMN calibration.brier IS 'Brier score, 0..1: mean squared error of the confidence; 0 is best.';
COMMENT ON COLUMN calibration.expected_calibration_error IS '0..1: mean distance of confidence from what came true; 0 is best.';
COMMENT ON COLUMN calibration.thresholds IS 'The thresholds these hand-offs suggest: an object of name and 0..1.';
