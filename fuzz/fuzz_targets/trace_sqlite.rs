//! Any bytes that SQLite takes for a database are a trace whose figures hold together, or an error with exit code 3.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rusqlite::{Connection, MAIN_DB, limits::Limit};
use vramplan::profile::trace::{Keep, figures, read_nsys};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut database) = Connection::open_in_memory() else { return };
    if database.deserialize_read_exact(MAIN_DB, bytes, bytes.len(), true).is_err() {
        return;
    }
    let _ = database.set_limit(Limit::SQLITE_LIMIT_LENGTH, 1 << 20);
    match read_nsys("fuzz.sqlite", &database, Keep { annotations: true }) {
        Ok(trace) => {
            for one in figures(&trace).values() {
                assert_eq!(one.busy.saturating_add(one.idle), one.window);
            }
        }
        Err(error) => assert_eq!(error.exit_code(), 3),
    }
});
