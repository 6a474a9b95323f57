//! Traces in every shape they come in, cut anywhere, damaged and hostile.

use super::*;
use crate::profile::trace::figures;
use std::io::Write;

/// A kernel of 50 us that hides the first half of a copy of 100 us.
const KERNEL: &str = r#"{"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 1695835542514261.000, "dur": 50.000, "args": {"device": 0, "stream": 7, "correlation": 1}}"#;
const COPY: &str = r#"{"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "pid": 0, "tid": 20, "ts": 1695835542514261.0, "dur": 100, "args": {"device": 0, "stream": 20, "bytes": 2500000}}"#;

fn read(text: impl AsRef<[u8]>) -> Result<Trace> {
    read_chrome("x.json", text.as_ref(), Keep { annotations: true })
}

fn events(list: &[&str]) -> String {
    format!("{{\"traceEvents\": [{}]}}", list.join(",\n"))
}

/// Window, kernel, HtoD, both, exposed, all in ns.
fn times(trace: &Trace) -> [u64; 5] {
    let all = figures(trace);
    let one = all.values().next().expect("a device");
    [one.window, one.kernel_busy, one.htod_busy, one.kernel_and_htod, one.htod_exposed]
        .map(crate::units::Nanos::get)
}

const HALF: [u64; 5] = [100_000, 50_000, 100_000, 50_000, 50_000];

#[test]
fn a_trace_is_read_in_every_shape_it_comes_in() {
    let legacy_kernel =
        KERNEL.replace("\"kernel\"", "\"Kernel\"").replace("\"tid\": 7", "\"tid\": \"stream 7\"");
    let legacy_kernel = legacy_kernel.replace("\"device\": 0, \"stream\": 7, ", "");
    let legacy_copy = COPY.replace("gpu_memcpy", "Memcpy");
    let quoted = COPY
        .replace("1695835542514261.0", "\"1695835542514261.0\"")
        .replace("\"dur\": 100", "\"dur\": \"100\"");
    let shapes = [
        events(&[KERNEL, COPY]),
        events(&[&legacy_kernel, &legacy_copy]),
        events(&[&quoted, KERNEL]),
        format!("[{KERNEL},{COPY}]"),
        format!("[{KERNEL},{COPY},]"),
        format!(
            "\u{feff}{{\"a\": {{\"traceEvents\": []}}, \"traceEvents\": [{COPY},{KERNEL}], \"z\": 1}}"
        ),
    ];
    for shape in shapes {
        let trace = read(&shape).expect("a trace");
        assert_eq!((times(&trace), &trace.cut), (HALF, &None), "{shape}");
        let streams: Vec<i64> = trace.rows().iter().map(|row| trace.lane(row).stream).collect();
        assert_eq!(streams, [7, 20], "{shape}");
    }
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
fn gzip_may_have_several_members_and_be_cut() {
    let text = events(&[KERNEL, COPY]);
    let (left, right) = text.split_at(90);
    let members = [packed(left), packed(right)].concat();
    assert_eq!(times(&read(&members).expect("a trace")), HALF);
    let mut long = vec![KERNEL, COPY];
    let filler: Vec<String> =
        (0..3_000).map(|n| format!("{{\"ph\": \"i\", \"name\": \"{}\"}}", n * 7_919)).collect();
    long.extend(filler.iter().map(String::as_str));
    let whole = packed(&events(&long));
    let trace = read(&whole[..whole.len() / 2]).expect("what stands before");
    assert_eq!(times(&trace), HALF);
    assert!(trace.cut.expect("a reason").contains("its data is cut or damaged after"));
}

#[test]
fn a_text_that_is_cut_anywhere_gives_what_stands_before_it() {
    let text = events(&[KERNEL, COPY, KERNEL]);
    for end in 0..text.len() - 1 {
        match read(&text[..end]) {
            Ok(trace) => assert!(trace.cut.is_some(), "{end}"),
            Err(error) => assert_eq!(error.exit_code(), 3, "{end}"),
        }
    }
    let cut = read(&text[..text.len() - 10]).expect("two rows");
    assert_eq!((times(&cut), cut.rows().len()), (HALF, 2));
}

#[test]
fn rows_that_cannot_be_used_are_counted_by_reason() {
    let bad = [
        KERNEL.replace("\"dur\": 50.000", "\"dur\": -3"),
        KERNEL.replace("\"dur\": 50.000,", ""),
        KERNEL.replace("\"dur\": 50.000", "\"dur\": null"),
        KERNEL.replace("\"dur\": 50.000", "\"dur\": 18446744073709551"),
        KERNEL.replace("\"pid\": 0", "\"pid\": \"Spans\"").replace("\"device\": 0, ", ""),
        KERNEL.replace("\"X\"", "\"B\""),
        "{\"ph\" \"X\"}".to_owned(),
        "[1, 2]".to_owned(),
    ];
    let list: Vec<&str> = bad.iter().map(String::as_str).chain([KERNEL, COPY]).collect();
    let trace = read(events(&list)).expect("a trace");
    assert_eq!(times(&trace), HALF);
    let counts: Vec<_> = trace.left_out.rows.into_iter().collect();
    use Reason::{BeginEnd, NegativeDuration, NoDevice, NoTime, OutOfRange, Unreadable};
    assert_eq!(
        counts,
        [
            (Unreadable, 2),
            (NoTime, 2),
            (NegativeDuration, 1),
            (OutOfRange, 1),
            (NoDevice, 1),
            (BeginEnd, 1)
        ]
    );
}

#[test]
fn ranges_and_calls_are_no_gpu_work() {
    let others = [
        KERNEL.replace("\"kernel\"", "\"gpu_user_annotation\""),
        KERNEL.replace("\"kernel\"", "\"cuda_sync\""),
        KERNEL.replace("\"kernel\"", "\"cpu_op\""),
        r#"{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 9, "tid": 9, "ts": 1695835542514200, "dur": 5, "args": {"correlation": 1}}"#.to_owned(),
        r#"{"ph": "X", "cat": "cuda_runtime", "name": "cudaMemcpyAsync", "pid": 9, "tid": "9", "ts": 1695835542514210, "dur": 5, "args": {"correlation": 2}}"#.to_owned(),
        r#"{"ph": "M", "name": "process_name"}"#.to_owned(),
    ];
    let list: Vec<&str> = others.iter().map(String::as_str).chain([KERNEL, COPY]).collect();
    let trace = read(events(&list)).expect("a trace");
    assert_eq!(times(&trace), HALF);
    assert_eq!(trace.left_out.other_events.values().sum::<u64>(), 6);
    assert_eq!((trace.left_out.launches_without_row, trace.left_out.rows_without_launch), (1, 0));
    let calls: Vec<_> = trace.launches.iter().map(|call| (call.start, call.thread)).collect();
    assert_eq!(calls, [(-61_000, 0), (-51_000, 0)]);
    assert_eq!(trace.annotations.len(), 1);
}

#[test]
fn hostile_names_stay_names() {
    let long = "x".repeat(1 << 20);
    for name in [r#"</script><b>\"'&"#, r"\u0000\u001b[2J", &long] {
        let event = KERNEL.replace("gemm", name);
        let trace = read(events(&[&event, COPY])).expect("a trace");
        assert_eq!(times(&trace), HALF);
        assert!(trace.label(&trace.rows()[0]).name.len() <= crate::profile::trace::LONGEST_NAME);
    }
    let huge = KERNEL.replace("gemm", &"y".repeat(LONGEST_EVENT));
    let trace = read(events(&[&huge, COPY])).expect("the copy");
    assert_eq!(trace.left_out.rows[&Reason::TooLong], 1);
    let no_utf8 = [
        b"{\"traceEvents\": [".as_slice(),
        &KERNEL.as_bytes().iter().map(|b| if *b == b'g' { 0xff } else { *b }).collect::<Vec<u8>>(),
        b"]}",
    ]
    .concat();
    // The letter is in no other word that counts but `args`, so device and stream come from pid and tid.
    assert_eq!(read(no_utf8).expect("a trace").rows().len(), 1);
}

#[test]
fn what_is_no_trace_is_refused_in_words() {
    let refusal = |text: &str| {
        let error = read(text).expect_err("a refusal");
        assert_eq!(error.exit_code(), 3);
        error.to_string()
    };
    expect_test::expect!["x.json: byte 0: found it ends after 0 bytes of text, before its last bracket, expected a JSON object with traceEvents, or a list of trace events"].assert_eq(&refusal(""));
    expect_test::expect![
        "x.json: the outermost object: found no traceEvents, expected a list of trace events"
    ]
    .assert_eq(&refusal("{\"a\": 1}"));
    expect_test::expect!["x.json: byte 0: found byte 0 is 'h', which cannot stand there, expected a JSON object with traceEvents, or a list of trace events"].assert_eq(&refusal("hello"));
    expect_test::expect!["x.json: traceEvents: found 2 events and no usable GPU row; most are cpu_op (2), expected X events of category kernel, gpu_memcpy or gpu_memset: record with activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]"].assert_eq(&refusal("[{\"cat\": \"cpu_op\"}, {\"cat\": \"cpu_op\"}]"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = read(bytes);
    }

    #[test]
    fn no_damage_to_a_trace_panics(at in 0usize..400, byte: u8) {
        let mut text = events(&[KERNEL, COPY]).into_bytes();
        let at = at % text.len();
        text[at] = byte;
        if let Ok(trace) = read(&text) {
            let _ = figures(&trace);
        }
    }
}
