-- For people and dashboards. Filter samples on t0 as well as on t: t0 is what is indexed.

CREATE VIEW samples AS
SELECT to_timestamp((s.t_ns::double precision + f.mono_to_utc_ns::double precision) / 1e9) AS t,
       f.t0, f.rig, f.epoch, f.seq,
       coalesce(f.runs[s.i], f.run) AS run,
       f.first + s.i - 1 AS index,
       s.t_ns, s.t_unc_ns, s.t_rx_ns, s.bias_v, s.current_a, s.flags, s.phase,
       f.mono_to_utc_ns, f.utc_valid, f.utc_unc_ns
FROM frames f
CROSS JOIN LATERAL unnest(f.t_ns, f.t_unc_ns, f.t_rx_ns, f.bias_v, f.current_a, f.flags, f.phase)
    WITH ORDINALITY AS s (t_ns, t_unc_ns, t_rx_ns, bias_v, current_a, flags, phase, i);
COMMENT ON VIEW samples IS 'one row per sample; current_a is NaN where the reading cannot be trusted';

CREATE VIEW samples_1s AS
SELECT t, rig, sum(n) AS n,
       min(bias_min) AS bias_min_v, max(bias_max) AS bias_max_v, sum(bias_sum) / sum(n) AS bias_mean_v,
       sum(current_n) AS current_n,
       min(current_min) AS current_min_a, max(current_max) AS current_max_a,
       sum(current_sum) / nullif(sum(current_n), 0) AS current_mean_a,
       bit_or(flags) AS flags
FROM frame_seconds
GROUP BY rig, t;
COMMENT ON VIEW samples_1s IS 'per rig and second; currents over trusted readings only';

CREATE VIEW point_waveforms AS
SELECT p.rig, p.run, p.index, p.kind, p.label, p.class, e.verdict, e.t, e.t_ns, e.bias_v, e.current_a, e.flags, e.phase
FROM points p
JOIN events e ON e.rig = p.rig AND e.epoch = p.epoch AND e.run = p.run AND e.point = p.index AND e.t_ns IS NOT NULL;
COMMENT ON VIEW point_waveforms IS 'points and cycles with the waveform of each setting event seen there';

CREATE TABLE retention (
    what      text PRIMARY KEY CHECK (what IN ('frames', 'seconds', 'quarantine')),
    keep_days integer CHECK (keep_days > 0)
);
COMMENT ON TABLE retention IS 'days to keep; null: for ever. Events, runs, points and the ledger are never removed';
INSERT INTO retention VALUES ('frames', NULL), ('seconds', NULL), ('quarantine', NULL);
