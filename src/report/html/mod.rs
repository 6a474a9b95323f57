//! Turns a run into one self-contained page: no network, no fonts, readable without script, same bytes every time.
//!
//! All numbers are computed here; the script (`report.js`) only redraws the timeline, sorts tables and switches the
//! theme. The content security policy allows nothing but this page's own style and script, which carry a nonce
//! derived from the page's data, so that no name in a profile can bring a script of its own.

mod behind;
mod boundaries;
mod compare;
mod data;
pub(super) mod markup;
mod medians;
mod method;
mod predicted;
pub(super) mod rates;
mod sweep;
mod tables;
mod timeline;

use markup::{escape, json_in_script, paragraph, section};
use xxhash_rust::xxh3::xxh3_64;

use super::Extras;
use super::held;
use super::lists::Lists;
use super::measured;
use super::predicted::Predicted;
use super::rates::Rates;
use super::slices::merged_note;
use super::view::View;
use crate::profile::ComponentSummary;

pub(super) const STYLE: &str = include_str!("report.css");
const SCRIPTS: [&str; 3] =
    [include_str!("page.js"), include_str!("lanes.js"), include_str!("report.js")];
const FOREIGN: [&str; 3] =
    [include_str!("page.js"), include_str!("lanes.js"), include_str!("foreign.js")];

/// The data and the scripts of a page, and the end of its document.
fn scripts(data: &str, nonce: &str, parts: [&str; 3]) -> String {
    format!(
        "<script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script nonce=\"{nonce}\">\n\"use strict\";\n(() => {{\n{}}})();\n</script>\n</body>\n</html>\n",
        parts.concat()
    )
}

/// What ends the page of a foreign trace: its data, as JSON, and the script that draws it.
pub(super) fn foreign_end(data: &str, nonce: &str) -> String {
    scripts(data, nonce, FOREIGN)
}

/// The page of the first run; the others are compared with it.
pub(super) fn page(views: &[View<'_>], planned: Option<&View<'_>>, extras: &Extras) -> String {
    let Some(view) = views.first() else { return String::new() };
    let data = json_in_script(&data::data(view, planned));
    let told = planned.and_then(|planned| Predicted::of(view, planned));
    let nonce = format!("{:016x}", xxh3_64(data.as_bytes()));
    let header = &view.profile.header;
    let title = format!("{} on {}", header.model, header.device);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; base-uri 'none'; \
         form-action 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} \u{2013} vramplan report</title>\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n",
        escape(&title)
    );
    out.push_str(PATTERNS);
    out.push_str(&top(view, extras, &title));
    out.push_str(&tiles(view));
    out.push_str(&run_section(view, planned));
    out.push_str(&tables::ledger(view));
    out.push_str(&tables::stalls(view));
    out.push_str(&tables::passes(view, planned));
    out.push_str(&boundaries::boundaries(view, planned, extras));
    out.push_str(&predicted::predicted(told.as_ref()));
    out.push_str(&rates::section_of(&Rates::of_run(view.profile), view.summary.origin));
    out.push_str(&tables::lanes(view));
    out.push_str(&compare::runs(views));
    out.push_str(&compare::policies(view, extras));
    out.push_str(&sweep::sweep(view, extras));
    out.push_str(&plan(extras));
    out.push_str(&measured::html(view));
    out.push_str(&method::method(view));
    out.push_str("</main>\n");
    out.push_str(&scripts(&data, &nonce, SCRIPTS));
    out
}

fn top(view: &View<'_>, extras: &Extras, title: &str) -> String {
    let header = &view.profile.header;
    let mut out = format!(
        "<header><div><h1>{}</h1><p class=\"sub\">budget {} \u{b7} backend {} \u{b7} times <b class=\"origin\">{}</b> \
         \u{b7} plan {}</p></div><button id=\"theme\" type=\"button\" hidden>Dark / light</button></header>\n\
         <main>\n<div class=\"verdict\" role=\"note\" aria-label=\"Verdict\">\n",
        escape(title),
        header.budget.human(),
        escape(&header.backend),
        header.origin,
        escape(&header.plan_digest)
    );
    let own = view.verdict();
    for (index, line) in extras.verdict.iter().chain(&own).enumerate() {
        out.push_str(&paragraph(if index == 0 { "first" } else { "more" }, line));
    }
    out.push_str("</div>\n");
    out
}

/// Components with a tile of their own at most.
const MOST_TILES: usize = 6;

/// The key figures, each with its unit, base and origin.
fn tiles(view: &View<'_>) -> String {
    let summary = &view.summary;
    let origin = summary.origin.to_string();
    let given = "reserve + slab";
    let several = summary.components.len() > 1;
    let pass = |component: &ComponentSummary| {
        let of = if several { format!(" of {}", component.name) } else { String::new() };
        let (what, time) = match (component.whole, component.passes.first()) {
            (_, None) => ("steady pass", "none ran".to_owned()),
            (0, _) => ("steady pass", "n/a".to_owned()),
            (1, Some(first)) => ("first pass", first.human()),
            _ => ("steady pass", component.steady.human()),
        };
        let (low, high) = component.quartiles;
        let spread = match what == "steady pass" && component.whole > 4 && low < high {
            true => format!("{origin}, half of them {} to {}", low.human(), high.human()),
            false => origin.clone(),
        };
        (format!("{what}{of}"), time, spread)
    };
    let mut tiles: Vec<_> = summary.components.iter().take(MOST_TILES).map(pass).collect();
    let rest = [
        ("makespan", summary.makespan.human(), origin.clone()),
        ("H2D hidden", summary.overlap_fraction.percent(), format!("of H2D busy, {origin}")),
        (
            "stall",
            summary.stall.human(),
            format!("{} of makespan, {origin}", view.of_makespan(summary.stall)),
        ),
        ("copied H2D", summary.bytes_h2d.human(), origin.clone()),
        ("peak VRAM", summary.peak.human(), given.to_owned()),
        ("headroom", summary.headroom.human(), "budget \u{2212} peak".to_owned()),
    ];
    tiles.extend(rest.map(|(name, value, note)| (name.to_owned(), value, note)));
    let mut out = String::from("<dl class=\"tiles\">\n");
    for (name, value, note) in tiles {
        out.push_str(&format!(
            "<div><dt>{}</dt><dd>{}</dd><dd class=\"base\">{}</dd></div>\n",
            escape(&name),
            escape(&value),
            escape(&note)
        ));
    }
    out.push_str("</dl>\n");
    out
}

fn run_section(view: &View<'_>, planned: Option<&View<'_>>) -> String {
    let (name, window) = view.steady_window();
    let (lanes, merged) = timeline::lanes(view, planned, &name, window);
    let mut body = String::from(CONTROLS);
    let merged = merged_note(merged);
    body.push_str(&format!(
        "<p class=\"note\" id=\"shown\">Shown: {}, {} of {} ({}), from {}{merged}.</p>\n",
        escape(&name),
        window.end.saturating_sub(window.start).human(),
        view.summary.makespan.human(),
        view.summary.origin,
        window.start.human(),
    ));
    body.push_str("<div class=\"scroll\" id=\"charts\">\n");
    body.push_str(&lanes);
    body.push_str(&timeline::minimap(view, window));
    body.push_str("<h3>VRAM in use</h3>\n");
    body.push_str(&timeline::memory(view, &name, window));
    body.push_str("</div>\n");
    body.push_str("<output id=\"detail\" class=\"detail\" aria-live=\"polite\" hidden></output>\n");
    if let Some(planned) = planned {
        let text = format!(
            "The pale bars behind the marks are the same lanes as planned ({}, makespan {}), each pass moved to where \
             this run's own pass began.",
            planned.summary.origin,
            planned.summary.makespan.human()
        );
        body.push_str(&paragraph("note", &text));
    }
    body.push_str(&legend(view, planned.is_some()));
    body.push_str(&lists(view));
    body.push_str(&behind::uses(view, &name, window));
    body.push_str(&behind::memory(view));
    body.push_str(&paragraph("note", BEHIND));
    section("timeline", "Timeline", &body)
}

fn legend(view: &View<'_>, planned: bool) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    let lanes = view.summary.lanes.iter().map(|lane| (lane.lane.name(), lane.lane.name()));
    let others = [
        ("stall", "stall: compute waits for a copy"),
        ("reserve", "reserve (not observed)"),
        ("inuse", "slab bytes in use"),
    ];
    let behind = planned.then_some(("ghost", "as planned"));
    let held = held::is_held(view.profile);
    let held = held.then_some(("held", "collectives hold the link: copies pause"));
    for (class, label) in lanes.chain(others).chain(behind).chain(held) {
        out.push_str(&format!(
            "<li><svg width=\"22\" height=\"12\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"22\" height=\"12\"/></svg> {label}</li>"
        ));
    }
    out.push_str("</ul>\n");
    out
}

/// Block lists of the legend at most, per component.
const MOST_LISTS: usize = 12;

/// What the labels in the timeline stand for, in order of use.
fn lists(view: &View<'_>) -> String {
    let mut out = String::new();
    let components = &view.profile.header.components;
    for component in components.iter().take(MOST_TILES) {
        let lists = Lists::of(component).lists;
        let of =
            if components.len() > 1 { format!(" of {}", component.name) } else { String::new() };
        out.push_str(&format!(
            "<ul class=\"legend\"><li>Block lists{} in order of use:</li>",
            escape(&of)
        ));
        for list in lists.iter().take(MOST_LISTS) {
            let shade = list.shade;
            let what = match list.count {
                1 if list.name == list.short => list.name.clone(),
                1 => format!("{} = {}", list.short, list.name),
                count => format!("{} = {} ({count} blocks)", list.short, list.name),
            };
            let what =
                if list.name == "root" { "root: outside the lists".to_owned() } else { what };
            out.push_str(&format!(
                "<li><svg width=\"40\" height=\"12\" aria-hidden=\"true\"><rect class=\"compute l{shade}\" width=\"20\" \
                 height=\"12\"/><rect class=\"h2d l{shade}\" x=\"20\" width=\"20\" height=\"12\"/></svg> {}</li>",
                escape(&what)
            ));
        }
        if let Some(more) = lists.len().checked_sub(MOST_LISTS).filter(|more| *more > 0) {
            out.push_str(&format!("<li>and {more} more</li>"));
        }
        out.push_str("</ul>\n");
    }
    out
}

fn plan(extras: &Extras) -> String {
    let Some(text) = &extras.plan_yaml else { return String::new() };
    let body = format!(
        "<details><summary>The plan file ({} lines)</summary><pre tabindex=\"0\">{}</pre></details>\n",
        text.lines().count(),
        escape(text)
    );
    section("plan", "Plan", &body)
}

/// The table behind the timeline.
const BEHIND: &str = "Every span is a row of spans.csv. trace.json.gz opens in the Perfetto viewer, ui.perfetto.dev, \
    without leaving this machine.";

/// Shown by the script only.
const CONTROLS: &str = "<div class=\"controls\" id=\"controls\" hidden>\n\
    <label>Pass <select id=\"pass\"></select></label>\n\
    <button type=\"button\" id=\"prev\">\u{2039} Previous</button>\n\
    <button type=\"button\" id=\"next\">Next \u{203a}</button>\n\
    <button type=\"button\" id=\"in\">Zoom in</button>\n\
    <button type=\"button\" id=\"out\">Zoom out</button>\n\
    <button type=\"button\" id=\"all\">Whole run</button>\n\
    <span class=\"keys\">Drag to pan, click a mark to link copy and compute. In the focused timeline: \u{2190} \u{2192} next \
    mark, \u{2191} \u{2193} other lane, Enter from a copy to its compute and back, + \u{2212} zoom, Shift + \u{2190} \u{2192} pan, \
    0 whole run, Esc lets go</span>\n</div>\n";

/// Hatches, so that no meaning rests on colour alone.
pub(super) const PATTERNS: &str = "<svg width=\"0\" height=\"0\" class=\"defs\" aria-hidden=\"true\"><defs>\
    <pattern id=\"p-h2d\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"6\" height=\"6\" class=\"f-h2d\"/><rect width=\"1.4\" height=\"6\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-h2d-1\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"6\" height=\"6\" class=\"f-h2d l1\"/><rect width=\"1.4\" height=\"6\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-h2d-3\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"6\" height=\"6\" class=\"f-h2d l3\"/><rect width=\"1.4\" height=\"6\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-h2d-2\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
    <rect width=\"6\" height=\"6\" class=\"f-h2d l2\"/><rect width=\"1.4\" height=\"6\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-d2h\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\">\
    <rect width=\"6\" height=\"6\" class=\"f-d2h\"/><rect width=\"1.4\" height=\"6\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-stall\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(-45)\">\
    <rect width=\"5\" height=\"5\" class=\"f-stall\"/><rect width=\"2\" height=\"5\" class=\"f-ink\"/></pattern>\
    <pattern id=\"p-cold\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">\
    <rect width=\"6\" height=\"6\" class=\"f-cold\"/><circle cx=\"3\" cy=\"3\" r=\"1.2\" class=\"f-ink\"/></pattern>\
    </defs></svg>\n";
