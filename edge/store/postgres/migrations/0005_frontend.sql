-- The front end in series with the tip: one row per frame, codes as arrays. Partitioned as frames is, and kept as long.

CREATE TABLE front_frames (
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
    t_unc_ns       bigint NOT NULL,
    period_ns      double precision NOT NULL,
    step           bigint NOT NULL,
    index          numeric(20) NOT NULL,
    boot           text NOT NULL,
    code_a         double precision NOT NULL,
    code           smallint[],
    code_min       smallint[],
    code_max       smallint[],
    rest           bytea NOT NULL,
    cuts           integer[],
    received       timestamptz NOT NULL
) PARTITION BY RANGE (t0);
COMMENT ON TABLE front_frames IS 'row k of a frame is at t0_ns + k * period_ns; a current in A is a code times code_a';
COMMENT ON COLUMN front_frames.code IS 'every sample; null where code_min and code_max of each so many (step) are kept';
COMMENT ON COLUMN front_frames.rest IS 'the frame as it came, less the columns kept as arrays, which began at the offsets in cuts';

CREATE INDEX front_frames_rig_t0 ON front_frames (rig, t0);
CREATE INDEX front_frames_run_t0 ON front_frames (run, t0) WHERE run <> '';

CREATE VIEW front_rows AS
SELECT to_timestamp((f.t0_ns::double precision + (s.i - 1) * f.period_ns + f.mono_to_utc_ns::double precision) / 1e9) AS t,
       f.t0, f.rig, f.epoch, f.seq, f.run,
       f.first + s.i - 1 AS row,
       f.t0_ns + ((s.i - 1) * f.period_ns)::bigint AS t_ns, f.t_unc_ns, f.step,
       coalesce(s.code * f.code_a, least(s.low * f.code_a, s.high * f.code_a)) AS current_min_a,
       coalesce(s.code * f.code_a, greatest(s.low * f.code_a, s.high * f.code_a)) AS current_max_a,
       f.mono_to_utc_ns, f.utc_valid, f.utc_unc_ns
FROM front_frames f
CROSS JOIN LATERAL unnest(f.code, f.code_min, f.code_max) WITH ORDINALITY AS s (code, low, high, i);
COMMENT ON VIEW front_rows IS 'one row per row of a frame of the front end; both currents are the same where every sample is kept';
