//! The report as a whole: every file, its size, its bytes.

use super::*;
use crate::profile::fixture;
use crate::units::{Bytes, Nanos};

fn text<'a>(files: &'a [Artifact], name: &str) -> &'a str {
    let file = files.iter().find(|file| file.name == name).expect(name);
    std::str::from_utf8(&file.bytes).expect("text")
}

#[test]
fn the_summary_of_the_small_run() {
    let files = render(&[fixture::small()]).expect("files");
    expect_test::expect_file!["../../tests/golden/report/small.summary.md"]
        .assert_eq(text(&files, "summary.md"));
    expect_test::expect_file!["../../tests/golden/report/small.report.html"]
        .assert_eq(text(&files, "report.html"));
}

#[test]
fn the_same_runs_give_the_same_bytes() {
    let runs = [fixture::small(), fixture::small()];
    assert_eq!(render(&runs).expect("files"), render(&runs).expect("files"));
}

#[test]
fn a_long_run_makes_a_page_below_two_megabytes() {
    let profile = fixture::large();
    let page = html::page(&[View::of(&profile)], None, &Extras::default());
    assert_eq!(page, html::page(&[View::of(&profile)], None, &Extras::default()));
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("spans merged"));
}

#[test]
fn thousands_of_passes_still_make_a_small_page() {
    let mut profile = fixture::large();
    let spans = profile.spans.clone();
    let length = spans.last().expect("spans").end.get();
    for round in 1..40u64 {
        profile.spans.extend(spans.iter().cloned().map(|mut span| {
            span.start = Nanos::new(span.start.get() + round * length);
            span.end = Nanos::new(span.end.get() + round * length);
            span.pass += 28 * u32::try_from(round).expect("a small count");
            span
        }));
    }
    let page = html::page(&[View::of(&profile)], None, &Extras::default());
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
}

#[test]
fn the_largest_numbers_are_drawn_and_not_feared() {
    let mut profile = fixture::small();
    let most = Bytes::new(u64::MAX);
    (profile.header.budget, profile.header.slab, profile.header.reserve) = (most, most, most);
    profile.vram[3].in_use = most;
    let last = profile.spans.last_mut().expect("spans");
    (last.end, last.bytes, last.pass) = (Nanos::new(u64::MAX), most, u32::MAX);
    profile.header.components[0].passes = u32::MAX;
    let mut extras = extras();
    extras.policies[0].pass = Nanos::new(u64::MAX);
    extras.sweep[0].pass = Some(Nanos::new(u64::MAX));
    extras.sweep[0].vram = most;
    assert_eq!(render_with(&[profile], &extras).expect("files").len(), 15);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(12))]
    #[test]
    fn any_run_has_a_report_whose_svg_is_well_formed(profile in fixture::any()) {
        let page = html::page(&[View::of(&profile)], None, &extras());
        for tag in ["svg", "g", "table", "section", "div", "text"] {
            let opened = page.matches(&format!("<{tag} ")).count() + page.matches(&format!("<{tag}>")).count();
            proptest::prop_assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{}", tag);
        }
    }
}

/// What `study` passes in, small enough to check by eye.
pub(crate) fn extras() -> Extras {
    let gib = |count: u64| Bytes::new(count << 30);
    let ms = |time: u64| Nanos::new(time * 1_000_000);
    let policy = |policy: &str, pass: u64, fits: bool| PolicyRow {
        policy: policy.into(),
        parameters: "slots=2:prefetch=1".into(),
        pass: ms(pass),
        peak: gib(4),
        bytes_per_pass: gib(2),
        fits,
    };
    let row = |policy: &str, vram: u64, pass: Option<u64>| SweepRow {
        policy: policy.into(),
        vram: gib(vram),
        pass: pass.map(ms),
    };
    Extras {
        verdict: vec!["vramplan is 12 % faster than the best peer.".into()],
        policies: vec![
            policy("hybrid", 150, true),
            policy("sglang", 171, true),
            policy("<peer>", 160, false),
        ],
        sweep: vec![
            row("hybrid", 3, Some(260)),
            row("hybrid", 4, Some(150)),
            row("hybrid", 6, Some(140)),
            row("sglang", 3, None),
            row("sglang", 4, Some(171)),
            row("sglang", 6, Some(155)),
        ],
        chosen: Some("hybrid".into()),
        boundaries: Vec::new(),
        bound: Some(ms(148)),
        bounds: vec![
            BoundPoint { vram: gib(3), pass: ms(240) },
            BoundPoint { vram: gib(4), pass: ms(148) },
            BoundPoint { vram: gib(6), pass: ms(140) },
        ],
        origin: None,
        plan_yaml: Some("format: vramplan/plan/1\nmodel: <toy>\n".into()),
        planned: None,
    }
}

#[test]
fn a_study_adds_its_sections_and_charts() {
    let runs = [fixture::small(), fixture::small()];
    let files = render_with(&runs, &extras()).expect("files");
    let page = text(&files, "report.html");
    for id in ["runs", "policies", "sweep", "plan"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    expect_test::expect!["report.html summary.json summary.md timeline.svg timeline.png vram.svg vram.png vram.csv spans.csv trace.json.gz rates.svg rates.png rates.csv run2-timeline.svg run2-timeline.png run2-vram.svg run2-vram.png run2-vram.csv run2-spans.csv run2-trace.json.gz run2-rates.svg run2-rates.png run2-rates.csv predicted.svg predicted.png predicted.csv sweep.svg sweep.png"].assert_eq(&names.join(" "));
    assert!(text(&files, "summary.md").contains("| sglang |"));
}

#[test]
fn names_bring_no_markup_and_no_script() {
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u{202e}|`";
    let mut profile = fixture::small();
    let header = &mut profile.header;
    (header.model, header.device, header.backend) = (evil.into(), evil.into(), evil.into());
    (header.clock, header.plan_digest) = (evil.into(), evil.into());
    header.components[0].name = evil.into();
    header.components[0].blocks[1] = evil.into();
    let mut extras = extras();
    extras.verdict.push(evil.into());
    extras.plan_yaml = Some(evil.into());
    extras.policies[0].policy = evil.into();
    extras.sweep[0].policy = evil.into();
    let files = render_with(&[profile], &extras).expect("files");
    let page = text(&files, "report.html");
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img") && !page.contains("alert(1)>\""));
    for name in ["timeline.svg", "vram.svg", "sweep.svg"] {
        assert!(!text(&files, name).contains("<script"), "{name}");
    }
}

#[test]
fn the_page_asks_nothing_of_the_network() {
    let files = render_with(&[fixture::small()], &extras()).expect("files");
    let page = text(&files, "report.html").replace("http://www.w3.org/2000/svg", "");
    for way in ["http:", "https:", "//cdn", "@import", "url(http", "fetch(", "src="] {
        assert!(!page.contains(way), "{way}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_json_holds_what_others_rely_on() {
    let files = render(&[fixture::small()]).expect("files");
    let value: serde_json::Value =
        serde_json::from_str(text(&files, "summary.json")).expect("json");
    for key in [
        "makespan_ns",
        "compute_busy_ns",
        "h2d_busy_ns",
        "overlap_ns",
        "exposed_ns",
        "stall_ns",
        "peak_bytes",
    ] {
        assert!(value[key].is_u64(), "{key}");
    }
    assert_eq!(value["components"][0]["pass_ns"].as_array().map(Vec::len), Some(3));
}

#[test]
fn an_empty_run_still_has_a_report() {
    let mut profile = fixture::small();
    profile.spans.clear();
    profile.vram.clear();
    profile.header.complete = false;
    let files = render(&[profile]).expect("files");
    assert!(text(&files, "report.html").contains("The run was cut short"));
    let none = render(&[]).expect_err("no profile");
    assert_eq!(none.exit_code(), 2);
}
