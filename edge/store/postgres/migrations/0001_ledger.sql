-- What was committed, and what may be forgotten elsewhere because of it.

CREATE TABLE store_identity (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    store       text NOT NULL,
    generation  text NOT NULL,
    incarnation text NOT NULL,
    drawn       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE store_identity IS 'name of this store; generation is drawn anew when incarnation shows that it was restored';

CREATE TABLE frame_ledger (
    rig    text COLLATE "C" NOT NULL,
    epoch  text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (rig, epoch, stream, seq)
);
COMMENT ON TABLE frame_ledger IS 'identity of every frame ever committed: the only thing that tells a frame from its repetition';

CREATE TABLE stream_mark (
    rig     text COLLATE "C" NOT NULL,
    epoch   text COLLATE "C" NOT NULL,
    stream  text COLLATE "C" NOT NULL,
    covered int8multirange NOT NULL,
    dropped int8multirange NOT NULL DEFAULT '{}',
    touched timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rig, epoch, stream)
) WITH (fillfactor = 50);
COMMENT ON TABLE stream_mark IS 'covered: seq of the ledger as ranges, kept in the same transactions; dropped: those that retention removed later';

CREATE TABLE quarantine (
    digest       bytea PRIMARY KEY,
    topic        text NOT NULL,
    payload      bytea NOT NULL,
    why          text NOT NULL,
    content_type text,
    times        bigint NOT NULL DEFAULT 1,
    first_seen   timestamptz NOT NULL DEFAULT now(),
    last_seen    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE quarantine IS 'messages that are no frame this program knows, as they came; no mark covers them. digest: SHA-256 of topic, NUL, payload';
