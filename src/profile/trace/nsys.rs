//! Turns the SQLite export of Nsight Systems (`nsys export --type sqlite`) into a [`Trace`].
//!
//! Read: `CUPTI_ACTIVITY_KIND_KERNEL`, `_MEMCPY` (copyKind 1 HtoD, 2 DtoH, 8 DtoD, 10 PtoP) and `_MEMSET`, whose times
//! are integer nanoseconds; names through `StringIds`; launches from `_RUNTIME`; ranges from `NVTX_EVENTS`. A missing
//! table is a note, not an error, as long as one of the three is there. Columns are taken by name, for exports of
//! different years have different ones.
//!
//! A database can hold more than tables. Only real ones are read, with limits on the length of values; views,
//! triggers and virtual tables of the same names are refused.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement};

use super::builder::{Builder, Raw};
use super::chrome::launches;
use super::{Format, GpuInfo, Keep, Kind, LONGEST_NAME, Memory, Place, Reason, Trace};
use crate::error::{Error, Problem, Result};
use crate::units::Bytes;

const KERNELS: &str = "CUPTI_ACTIVITY_KIND_KERNEL";
const COPIES: &str = "CUPTI_ACTIVITY_KIND_MEMCPY";
const MEMSETS: &str = "CUPTI_ACTIVITY_KIND_MEMSET";
const CALLS: &str = "CUPTI_ACTIVITY_KIND_RUNTIME";
const RANGES: &str = "NVTX_EVENTS";
const STRINGS: &str = "StringIds";
const GPUS: &str = "TARGET_INFO_GPU";

/// Names that are looked up at most once each.
const MOST_STRINGS: usize = 1 << 20;

/// Reads an export through an open connection. `file` is only for messages.
///
/// Damage inside the database ends the reading of its table: the trace then has [`Trace::cut`] set.
pub fn read_nsys(file: &str, database: &Connection, keep: Keep) -> Result<Trace> {
    let broken = |error: rusqlite::Error| {
        let expected = "a SQLite database written by `nsys export --type sqlite`";
        Error::input(file, Problem::new("the database", error.to_string(), expected))
    };
    let tables = tables(database).map_err(broken)?;
    let mut reader =
        Reader { database, builder: Builder::new(Format::NsightSqlite), tables, lost: Vec::new() };
    let wanted = [KERNELS, COPIES, MEMSETS];
    if !wanted.iter().any(|table| reader.tables.contains_key(*table)) {
        return Err(no_tables(file, &reader.tables));
    }
    reader.part(GPUS, Reader::gpus);
    reader.part(KERNELS, Reader::kernels);
    reader.part(COPIES, Reader::copies);
    reader.part(MEMSETS, Reader::memsets);
    reader.part(CALLS, Reader::calls);
    if keep.annotations {
        reader.part(RANGES, Reader::ranges);
    }
    reader.finish(file)
}

fn no_tables(file: &str, tables: &BTreeMap<String, BTreeSet<String>>) -> Error {
    let names: Vec<&str> = tables.keys().map(String::as_str).take(6).collect();
    let found = match tables.len() {
        0 => "no table".to_owned(),
        count => format!("{count} tables ({}, …) and none of GPU work", names.join(", ")),
    };
    let expected =
        format!("{KERNELS}, {COPIES} or {MEMSETS}: record with `nsys profile --trace=cuda`");
    Error::input(file, Problem::new("the tables", found, expected))
}

/// Real tables with their columns, by name.
fn tables(database: &Connection) -> rusqlite::Result<BTreeMap<String, BTreeSet<String>>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name LIMIT 10000";
    let mut statement = database.prepare(sql)?;
    let mut names = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let ValueRef::Text(name) = row.get_ref(0)? {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    let mut found = BTreeMap::new();
    for name in names {
        // Generated columns could compute anything; `table_info` leaves hidden ones out.
        let mut statement = database.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let columns = statement.query_map([&name], |row| row.get::<_, String>(0))?;
        let columns: BTreeSet<String> = columns.collect::<rusqlite::Result<_>>()?;
        found.insert(name, columns);
    }
    Ok(found)
}

/// An integer, also where it is stored as text; `None` for NULL and anything else.
fn integer(row: &rusqlite::Row<'_>, column: usize) -> Option<i64> {
    match row.get_ref(column).ok()? {
        ValueRef::Integer(value) => Some(value),
        ValueRef::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        _ => None,
    }
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> Option<u64> {
    integer(row, column).and_then(|value| u64::try_from(value).ok())
}

struct Reader<'a> {
    database: &'a Connection,
    builder: Builder,
    tables: BTreeMap<String, BTreeSet<String>>,
    lost: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads a table that may be missing or damaged.
    fn part(&mut self, table: &str, read: impl FnOnce(&mut Self) -> rusqlite::Result<()>) {
        if !self.tables.contains_key(table) {
            return;
        }
        if let Err(error) = read(self) {
            self.lost.push(format!("table {table} cannot be read to its end ({error})"));
        }
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.tables.get(table).is_some_and(|columns| columns.contains(column))
    }

    /// Selects columns of a table by name; a column that the table lacks gives NULL.
    fn select(&self, table: &str, columns: &[&str]) -> rusqlite::Result<Statement<'a>> {
        let one = |column: &&str| match self.has(table, column) {
            true => format!("\"{column}\""),
            false => "NULL".to_owned(),
        };
        let list: Vec<String> = columns.iter().map(one).collect();
        self.database.prepare(&format!("SELECT {} FROM \"{table}\"", list.join(", ")))
    }

    /// The strings that one column refers to, by id.
    fn strings(&self, table: &str, column: &str) -> rusqlite::Result<BTreeMap<i64, String>> {
        let mut found = BTreeMap::new();
        if !self.has(table, column) || !self.has(STRINGS, "id") || !self.has(STRINGS, "value") {
            return Ok(found);
        }
        let mut statement = self.database.prepare(&format!(
            "SELECT id, value FROM {STRINGS} WHERE id IN (SELECT \"{column}\" FROM \"{table}\") LIMIT {MOST_STRINGS}"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let (Some(id), ValueRef::Text(text)) = (integer(row, 0), row.get_ref(1)?) {
                found.insert(id, shortened(text));
            }
        }
        Ok(found)
    }

    fn gpus(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.select(GPUS, &["id", "name", "totalMemory"])?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Some(device) = integer(row, 0) else { continue };
            let name = match row.get_ref(1)? {
                ValueRef::Text(text) => Some(shortened(text)),
                _ => None,
            };
            let memory = unsigned(row, 2).map(Bytes::new);
            self.builder.device(device, GpuInfo { name, memory });
        }
        Ok(())
    }

    /// The columns that all rows of the GPU share.
    const ROW: [&'static str; 6] =
        ["start", "end", "deviceId", "streamId", "correlationId", "globalPid"];

    /// Adds a row whose first six columns are [`Self::ROW`].
    fn row(&mut self, table: &str, row: &rusqlite::Row<'_>, what: &What<'_>) {
        let words = || format!("a row of {table}: {:?}", what.name);
        let (Some(start), Some(end)) = (integer(row, 0), integer(row, 1)) else {
            return self.builder.refuse(Reason::NoTime, words);
        };
        let Some(device) = integer(row, 2) else {
            return self.builder.refuse(Reason::NoDevice, words);
        };
        let process = integer(row, 5).unwrap_or(0);
        self.builder.row(&Raw {
            device,
            stream: integer(row, 3).unwrap_or(-1),
            kind: what.kind,
            memory: what.memory,
            name: what.name,
            start,
            end,
            bytes: what.bytes,
            correlation: unsigned(row, 4).map_or(0, |id| correlation(process, id)),
        });
    }

    fn kernels(&mut self) -> rusqlite::Result<()> {
        let name = match self.has(KERNELS, "shortName") {
            true => "shortName",
            false => "demangledName",
        };
        let names = self.strings(KERNELS, name)?;
        let mut statement = self.select(KERNELS, &[&Self::ROW[..], &[name]].concat())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = integer(row, 6).and_then(|id| names.get(&id));
            let name = name.map_or("(a kernel without a name)", String::as_str);
            let kind = Kind::of_kernel(name);
            self.row(KERNELS, row, &What { kind, memory: Memory::Unknown, name, bytes: None });
        }
        Ok(())
    }

    fn copies(&mut self) -> rusqlite::Result<()> {
        let columns = [&Self::ROW[..], &["copyKind", "srcKind", "dstKind", "bytes"]].concat();
        let mut statement = self.select(COPIES, &columns)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let side = |column: usize| integer(row, column);
            let what = copy(integer(row, 6), side(7), side(8));
            self.row(COPIES, row, &What { bytes: unsigned(row, 9), ..what });
        }
        Ok(())
    }

    fn memsets(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.select(MEMSETS, &[&Self::ROW[..], &["bytes"]].concat())?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = unsigned(row, 6);
            let (kind, memory) = (Kind::Memset, Memory::Unknown);
            self.row(MEMSETS, row, &What { kind, memory, name: "Memset", bytes });
        }
        Ok(())
    }

    fn calls(&mut self) -> rusqlite::Result<()> {
        let names = self.strings(CALLS, "nameId")?;
        let with_process = self.has(KERNELS, "globalPid") || self.has(COPIES, "globalPid");
        let mut statement =
            self.select(CALLS, &["start", "correlationId", "globalTid", "nameId"])?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = integer(row, 3).and_then(|id| names.get(&id));
            let name = name.map_or("(a call without a name)", String::as_str);
            self.builder.other(CALLS);
            let (Some(start), Some(id)) = (integer(row, 0), unsigned(row, 1)) else { continue };
            if launches(name) {
                let thread = integer(row, 2).unwrap_or(0);
                let process = if with_process { thread } else { 0 };
                self.builder.launch(correlation(process, id), start, thread.cast_unsigned());
            }
        }
        Ok(())
    }

    fn ranges(&mut self) -> rusqlite::Result<()> {
        let names = self.strings(RANGES, "textId")?;
        let mut statement =
            self.select(RANGES, &["start", "end", "globalTid", "text", "textId"])?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (Some(start), Some(end)) = (integer(row, 0), integer(row, 1)) else { continue };
            let thread = integer(row, 2).unwrap_or(0).cast_unsigned();
            let own = match row.get_ref(3)? {
                ValueRef::Text(text) => Some(shortened(text)),
                _ => None,
            };
            let shared = integer(row, 4).and_then(|id| names.get(&id));
            if let Some(name) = own.as_ref().or(shared) {
                self.builder.annotation(Place::Thread(thread), name, start, end);
            }
        }
        Ok(())
    }

    fn finish(mut self, file: &str) -> Result<Trace> {
        if self.builder.is_empty() {
            let refused = self.builder.refused();
            let mut found =
                format!("no usable row in the tables of GPU work, {refused} that are not");
            for lost in &self.lost {
                found.push_str(&format!("; {lost}"));
            }
            let expected = "kernels, copies or memsets: record with `nsys profile --trace=cuda`";
            return Err(Error::input(file, Problem::new("the tables", found, expected)));
        }
        if !self.lost.is_empty() {
            self.builder.cut(self.lost.join("; "));
        }
        Ok(self.builder.finish())
    }
}

/// What a row is, apart from when and where.
struct What<'a> {
    kind: Kind,
    memory: Memory,
    name: &'a str,
    bytes: Option<u64>,
}

/// What a copy is, from CUPTI's numbers for its direction and for the memory at both ends.
fn copy(direction: Option<i64>, source: Option<i64>, target: Option<i64>) -> What<'static> {
    let (kind, name, host) = match direction {
        Some(1) => (Kind::Htod, "Memcpy HtoD", source),
        Some(2) => (Kind::Dtoh, "Memcpy DtoH", target),
        Some(8) => (Kind::Dtod, "Memcpy DtoD", None),
        Some(10) => (Kind::Ptop, "Memcpy PtoP", None),
        Some(11) => (Kind::OtherCopy, "Unified memory HtoD", None),
        Some(12) => (Kind::OtherCopy, "Unified memory DtoH", None),
        _ => (Kind::OtherCopy, "Memcpy of another kind", None),
    };
    let memory = match host {
        Some(0) => Memory::Pageable,
        Some(1) => Memory::Pinned,
        _ => Memory::Unknown,
    };
    What { kind, memory, name, bytes: None }
}

/// Correlation ids count per process: the process's number, 24 bits of Nsight's global id, goes in front.
fn correlation(process: i64, id: u64) -> u64 {
    let process = (process.cast_unsigned() >> 24) & 0xff_ffff;
    process << 32 | id & 0xffff_ffff
}

/// A name as text, cut to a few times what is kept.
fn shortened(text: &[u8]) -> String {
    let cut = text.get(..4 * LONGEST_NAME).unwrap_or(text);
    String::from_utf8_lossy(cut).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::trace::figures;

    const SCHEMA: &str = "
        CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT);
        CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT, totalMemory INTEGER);
        CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER, shortName INTEGER);
        CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER, srcKind INTEGER, dstKind INTEGER);
        CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, correlationId INTEGER, globalTid INTEGER, nameId INTEGER);
        CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, globalTid INTEGER, text TEXT, textId INTEGER);
        INSERT INTO StringIds VALUES (1, 'gemm'), (2, 'cudaLaunchKernel_v7000'), (3, 'blocks.0');
        INSERT INTO TARGET_INFO_GPU VALUES (0, 'A GPU', 1000);
        INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (1000, 1500, 0, 7, 5, 16777216, 1);
        INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (1000, 2000, 0, 20, 6, 16777216, 25000, 1, 1, 2), (2000, 2100, 0, 20, 7, 16777216, 100, 2, 2, 0);
        INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (900, 950, 5, 16777230, 2);
        INSERT INTO NVTX_EVENTS VALUES (890, 960, 16777230, NULL, 3), (1, 2, 3, 'mark', NULL), (5, NULL, 3, 'no end', NULL);";

    fn database(sql: &str) -> Connection {
        let database = Connection::open_in_memory().expect("a database");
        database.execute_batch(sql).expect("tables");
        database
    }

    fn read(sql: &str) -> Result<Trace> {
        read_nsys("x.sqlite", &database(sql), Keep { annotations: true })
    }

    #[test]
    fn an_export_is_read() {
        let trace = read(SCHEMA).expect("a trace");
        let all = figures(&trace);
        let one = &all[&0];
        let times =
            [one.window, one.kernel_busy, one.htod_busy, one.kernel_and_htod, one.dtoh_busy];
        assert_eq!(times.map(crate::units::Nanos::get), [1_100, 500, 1_000, 500, 100]);
        assert_eq!(one.name.as_deref(), Some("A GPU"));
        let memories: Vec<_> =
            one.copies.iter().map(|group| (group.direction, group.memory)).collect();
        assert_eq!(memories, [(Kind::Htod, Memory::Pinned), (Kind::Dtoh, Memory::Pageable)]);
        assert_eq!(
            (trace.left_out.launches_without_row, trace.left_out.rows_without_launch),
            (0, 2)
        );
        let call = trace.launches[0];
        let range = trace.annotations.iter().find(|range| range.on == Place::Thread(call.thread));
        assert_eq!(&*trace.annotation_names[range.expect("a range").name as usize], "blocks.0");
        assert_eq!(trace.cut, None);
    }

    #[test]
    fn tables_and_columns_may_be_missing() {
        let only = "CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start, end, deviceId, copyKind);
            INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES ('10', 20, 1, 1), (NULL, 5, 1, 1), (5, 3, 1, 1), (1, 2, NULL, 1), (x'00', 2, 0, 1);";
        let trace = read(only).expect("one row");
        assert_eq!(trace.rows().len(), 1);
        let counts: Vec<_> =
            trace.left_out.rows.iter().map(|(reason, count)| (*reason, *count)).collect();
        assert_eq!(
            counts,
            [(Reason::NoTime, 2), (Reason::NegativeDuration, 1), (Reason::NoDevice, 1)]
        );
        assert_eq!(trace.left_out.copies_without_bytes, 1);
    }

    #[test]
    fn what_is_no_export_is_refused_in_words() {
        let refusal = |sql: &str| {
            let error = read(sql).expect_err("a refusal");
            assert_eq!(error.exit_code(), 3);
            error.to_string()
        };
        expect_test::expect!["x.sqlite: the tables: found 1 tables (t, …) and none of GPU work, expected CUPTI_ACTIVITY_KIND_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY or CUPTI_ACTIVITY_KIND_MEMSET: record with `nsys profile --trace=cuda`"].assert_eq(&refusal("CREATE TABLE t (a)"));
        // A view of that name is no table: it could compute for ever.
        let endless = "CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS WITH RECURSIVE n(start) AS (SELECT 1 UNION ALL SELECT start + 1 FROM n) SELECT start, start AS end, 0 AS deviceId FROM n";
        assert!(refusal(endless).contains("found no table"));
        assert!(
            refusal("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start, end)")
                .contains("no usable row")
        );
    }

    #[test]
    fn processes_count_their_calls_apart() {
        assert_ne!(correlation(111 << 24, 5), correlation(112 << 24, 5));
        assert_eq!(correlation((111 << 24) + 99, 5), correlation(111 << 24, 5));
    }
}
