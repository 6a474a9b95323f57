//! Turns text and rows into escaped HTML; the only place where names from a profile enter markup.

/// Text as HTML or SVG content or as the value of a double-quoted attribute.
pub(in crate::report) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters are not allowed in a document; bidirectional overrides could reorder what is read.
            '\u{0}'..='\u{8}'
            | '\u{b}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                escaped.push('\u{fffd}');
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// JSON as the content of a script element: nothing in it can end the element or open a comment.
pub(in crate::report) fn json_in_script(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A column: its heading, and whether its cells are numbers.
pub(in crate::report) struct Column<'a>(pub &'a str, pub Kind);

/// How a column is set and sorted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::report) enum Kind {
    /// Names the row.
    Head,
    /// Left, sorted as text.
    Text,
    /// Right, sorted as a number.
    Number,
}

/// A cell: the text shown, and the number it is sorted by where that is not the text itself.
pub(in crate::report) struct Cell {
    text: String,
    key: Option<u64>,
}

impl Cell {
    /// Text only.
    pub(in crate::report) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), key: None }
    }

    /// Text that stands for a number.
    pub(in crate::report) fn number(text: impl Into<String>, key: u64) -> Self {
        Self { text: text.into(), key: Some(key) }
    }
}

/// Rows from which on a table scrolls by itself.
const TALL: usize = 16;

/// A table with caption and scoped headings; `sortable` ones are sorted by a click on a heading.
pub(in crate::report) fn table(
    caption: &str,
    sortable: bool,
    columns: &[Column<'_>],
    rows: &[Vec<Cell>],
) -> String {
    table_with_rest(caption, sortable, columns, rows, None)
}

/// [`table`], with a last row for what is left out; it stays last however the others are sorted.
pub(in crate::report) fn table_with_rest(
    caption: &str,
    sortable: bool,
    columns: &[Column<'_>],
    rows: &[Vec<Cell>],
    rest: Option<&[Cell]>,
) -> String {
    let class = if sortable { " class=\"sortable\"" } else { "" };
    // On a narrow page any table may have to be scrolled, which a keyboard can do only where it can go.
    let tall = if rows.len() < TALL { "" } else { " tall" };
    let label = escape(caption);
    let mut out = format!(
        "<div class=\"scroll{tall}\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table{class}><caption><span>{}</span></caption>\n<thead><tr>",
        escape(caption)
    );
    for Column(heading, kind) in columns {
        let class = if *kind == Kind::Number { " class=\"n\"" } else { "" };
        out.push_str(&format!("<th scope=\"col\"{class}>{}</th>", escape(heading)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str(&table_row(columns, row));
    }
    out.push_str("</tbody>");
    if let Some(rest) = rest {
        out.push_str(&format!("<tfoot>\n{}</tfoot>", table_row(columns, rest)));
    }
    out.push_str("</table></div>\n");
    out
}

fn table_row(columns: &[Column<'_>], row: &[Cell]) -> String {
    let mut out = String::from("<tr>");
    for (Column(_, kind), cell) in columns.iter().zip(row) {
        let key = cell.key.map_or(String::new(), |key| format!(" data-k=\"{key}\""));
        let text = escape(&cell.text);
        out.push_str(&match kind {
            Kind::Head => format!("<th scope=\"row\"{key}>{text}</th>"),
            Kind::Text => format!("<td{key}>{text}</td>"),
            Kind::Number => format!("<td class=\"n\"{key}>{text}</td>"),
        });
    }
    out + "</tr>\n"
}

/// A section with a heading that can be linked to.
pub(in crate::report) fn section(id: &str, heading: &str, body: &str) -> String {
    format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{}</h2>\n{body}</section>\n",
        escape(heading)
    )
}

/// A paragraph.
pub(in crate::report) fn paragraph(class: &str, text: &str) -> String {
    format!("<p class=\"{class}\">{}</p>\n", escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escape("<b>\"&'"), "&lt;b&gt;&quot;&amp;&#39;");
        assert_eq!(escape("a\u{202e}b\u{0}"), "a\u{fffd}b\u{fffd}");
        assert_eq!(json_in_script("[\"</script><!--\"]"), "[\"\\u003c/script\\u003e\\u003c!--\"]");
    }

    proptest! {
        #[test]
        fn escaped_json_means_the_same(text: String) {
            let json = serde_json::to_string(&text).expect("json");
            let inline = json_in_script(&json);
            prop_assert!(!inline.contains('<'));
            prop_assert_eq!(serde_json::from_str::<String>(&inline).expect("json"), text);
        }
    }
}
