//! Turns an unknown name into an error that lists what exists and suggests the nearest.

use crate::error::Error;

/// Names that are listed before the rest is only counted.
const SHOWN: usize = 12;

/// How alike two names must be for a suggestion, of 1.
const ALIKE: f64 = 0.7;

/// The usage error for a name that does not exist. `what` is singular: `block list`, `device`.
pub fn unknown(what: &str, name: &str, known: &[String]) -> Error {
    let mut listed = known.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if known.is_empty() {
        listed.push_str("none");
    } else if known.len() > SHOWN {
        listed.push_str(&format!(" and {} more", known.len() - SHOWN));
    }
    let hint = nearest(name, known).map(|near| format!("did you mean {near:?}?"));
    Error::Usage { message: format!("unknown {what} {name:?}; there are: {listed}"), hint }
}

/// The name most like the one asked for, where one is alike at all; the first of several.
pub fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let name = name.to_lowercase();
    let mut best: Option<(f64, &String)> = None;
    for candidate in known {
        let alike = strsim::jaro_winkler(&name, &candidate.to_lowercase());
        if alike >= ALIKE && best.is_none_or(|(most, _)| alike > most) {
            best = Some((alike, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn known() -> Vec<String> {
        ["single_transformer_blocks", "transformer_blocks"].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let error = unknown("block list", "transformer_block", &known());
        expect![[r#"unknown block list "transformer_block"; there are: single_transformer_blocks, transformer_blocks"#]].assert_eq(&error.to_string());
        assert_eq!(error.hint().as_deref(), Some("did you mean \"transformer_blocks\"?"));
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn nothing_is_suggested_where_nothing_is_alike() {
        assert_eq!(unknown("block list", "zzz", &known()).hint(), None);
        assert_eq!(
            unknown("device", "x", &[]).to_string(),
            "unknown device \"x\"; there are: none"
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let many: Vec<String> = (0..40).map(|n| format!("d{n}")).collect();
        assert!(unknown("device", "x", &many).to_string().ends_with("d11 and 28 more"));
    }
}
