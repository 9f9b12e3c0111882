-- Events and runs: never removed by retention.

CREATE TABLE events (
    t              timestamptz NOT NULL,
    rig            text COLLATE "C" NOT NULL,
    epoch          text COLLATE "C" NOT NULL,
    stream         text COLLATE "C" NOT NULL,
    seq            bigint NOT NULL,
    run            text COLLATE "C" NOT NULL,
    frame_kind     text NOT NULL,
    kind           text NOT NULL,
    verdict        text,
    point          integer,
    t0_ns          bigint NOT NULL,
    mono_to_utc_ns bigint NOT NULL,
    utc_valid      boolean NOT NULL,
    utc_unc_ns     bigint NOT NULL,
    doc            jsonb NOT NULL,
    t_ns           bigint[],
    bias_v         double precision[],
    current_a      double precision[],
    flags          integer[],
    phase          smallint[],
    payload        bytea NOT NULL,
    received       timestamptz NOT NULL,
    PRIMARY KEY (rig, epoch, stream, seq)
);
COMMENT ON TABLE events IS 'frames of kind event, epoch and tombstone; the arrays are the waveform of a setting event';
CREATE INDEX events_rig_t ON events (rig, t);
CREATE INDEX events_run ON events (run, t) WHERE run <> '';

CREATE TABLE run_documents (
    t              timestamptz NOT NULL,
    rig            text COLLATE "C" NOT NULL,
    epoch          text COLLATE "C" NOT NULL,
    seq            bigint NOT NULL,
    run            text COLLATE "C" NOT NULL,
    kind           text NOT NULL,
    t0_ns          bigint NOT NULL,
    mono_to_utc_ns bigint NOT NULL,
    utc_valid      boolean NOT NULL,
    utc_unc_ns     bigint NOT NULL,
    doc            jsonb NOT NULL,
    payload        bytea NOT NULL,
    received       timestamptz NOT NULL,
    PRIMARY KEY (rig, epoch, seq)
);
CREATE INDEX run_documents_run ON run_documents (run, t);

CREATE TABLE runs (
    rig          text COLLATE "C" NOT NULL,
    run          text COLLATE "C" NOT NULL,
    epoch        text COLLATE "C" NOT NULL,
    plan         text,
    parameters   jsonb,
    by           text,
    started      timestamptz,
    stopped      timestamptz,
    status       text,
    reason       text,
    results      jsonb,
    samples_lost bigint,
    rig_facts    jsonb,
    smu          jsonb,
    stage        jsonb,
    limits       jsonb,
    PRIMARY KEY (rig, run)
);
COMMENT ON TABLE runs IS 'one row per run, from its start and stop documents; status is null while no stop has come';

CREATE TABLE points (
    t              timestamptz NOT NULL,
    rig            text COLLATE "C" NOT NULL,
    epoch          text COLLATE "C" NOT NULL,
    seq            bigint NOT NULL,
    run            text COLLATE "C" NOT NULL,
    kind           text NOT NULL,
    index          integer,
    label          text,
    site_kind      text,
    x_m            double precision,
    y_m            double precision,
    class          text,
    reason         text,
    verdict        text,
    trigger_bias_v double precision,
    trigger_half_v double precision,
    set_current_a  double precision,
    charge_c       double precision,
    beyond_v       double precision,
    reset_bias_v   double precision,
    on_off         double precision,
    doc            jsonb NOT NULL,
    PRIMARY KEY (rig, epoch, seq)
);
COMMENT ON TABLE points IS 'points of maps and cycles of memristors; kind says which';
CREATE INDEX points_run ON points (run, index);
