-- Samples. Partitioned on t0, or a TimescaleDB hypertable: then the last line of CREATE TABLE is left out.

CREATE TABLE frames (
    t0             timestamptz NOT NULL,
    rig            text COLLATE "C" NOT NULL,
    epoch          text COLLATE "C" NOT NULL,
    stream         text COLLATE "C" NOT NULL,
    seq            bigint NOT NULL,
    run            text COLLATE "C" NOT NULL,
    n              integer NOT NULL,
    first          bigint NOT NULL,
    t0_ns          bigint NOT NULL,
    mono_to_utc_ns bigint NOT NULL,
    utc_valid      boolean NOT NULL,
    utc_unc_ns     bigint NOT NULL,
    t_ns           bigint[] NOT NULL,
    t_unc_ns       bigint[] NOT NULL,
    t_rx_ns        bigint[] NOT NULL,
    bias_v         double precision[] NOT NULL,
    current_a      double precision[] NOT NULL,
    flags          integer[] NOT NULL,
    phase          smallint[] NOT NULL,
    runs           text[],
    rest           bytea NOT NULL,
    cuts           integer[],
    received       timestamptz NOT NULL
) PARTITION BY RANGE (t0);
COMMENT ON COLUMN frames.t0 IS 'UTC of the first sample; the time of reception where the rig''s clock was out of all reason';
COMMENT ON COLUMN frames.runs IS 'run of each sample, only where they differ';
COMMENT ON COLUMN frames.rest IS 'the frame as it came, less the columns kept as arrays, which began at the offsets in cuts';

CREATE INDEX frames_rig_t0 ON frames (rig, t0);
CREATE INDEX frames_run_t0 ON frames (run, t0) WHERE run <> '';

CREATE TABLE frame_seconds (
    t           timestamptz NOT NULL,
    rig         text COLLATE "C" NOT NULL,
    n           integer NOT NULL,
    bias_min    double precision NOT NULL,
    bias_max    double precision NOT NULL,
    bias_sum    double precision NOT NULL,
    current_n   integer NOT NULL,
    current_min double precision,
    current_max double precision,
    current_sum double precision NOT NULL,
    flags       integer NOT NULL
) PARTITION BY RANGE (t);
COMMENT ON TABLE frame_seconds IS 'what each frame adds to each second; view samples_1s puts them together';

CREATE INDEX frame_seconds_rig_t ON frame_seconds (rig, t);
