//! What is masked in a build's reports, however it is written and split.

use proptest::prelude::*;

use super::*;
use crate::domain::model::FaultKind;

fn log(text: &str) -> BuildEvent {
    BuildEvent::Log { vertex: "v".into(), text: text.into() }
}

/// What is told of a log that comes in these parts.
fn told(mask: &Mask, parts: &[&str]) -> String {
    let reports = mask.reports();
    let mut events: Vec<BuildEvent> = parts.iter().flat_map(|part| reports.pass(log(part))).collect();
    events.extend(reports.rest());
    let text = |event| if let BuildEvent::Log { text, .. } = event { text } else { String::new() };
    events.into_iter().map(text).collect()
}

fn mask(values: &[&str]) -> Mask {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), values.join("\n")).expect("writable");
    Mask::of(&[SecretSource { id: "token".into(), value: SecretValue::File(file.path().to_owned()) }]).0
}

#[test]
fn values_lines_and_assignments_are_kept_out_and_the_rest_stays() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "KEY=\"hidden-value\"\nsecond-line-value\nabc\n").expect("writable");
    let source = |id: &str| SecretSource { id: id.into(), value: SecretValue::File(file.path().to_owned()) };
    let mask = Mask::of(&[source("token")]).0;
    assert_eq!(told(&mask, &["a hidden-value b\nsecond-line-value\nabc"]), "a *** b\n***\nabc");
    let mut fault = Fault::new(FaultKind::Build, "lian::x", "said hidden-value");
    fault.log_tail = vec!["second-line-value!".into()];
    fault.causes = vec!["error: second-line-value?".into()];
    let fault = mask.fault(fault);
    assert_eq!((fault.message.as_str(), fault.log_tail[0].as_str()), ("said ***", "***!"));
    assert_eq!(fault.causes, ["error: ***?"]);
    assert_eq!(told(&Mask::of(&[source("ca")]).0, &["hidden-value"]), "hidden-value");
}

#[test]
fn a_value_that_comes_in_parts_is_masked_wherever_it_is_cut() {
    let mask = mask(&["hidden-value", "hidden-value-and-more", "lue-of-another"]);
    let text = "a hidden-value b hidden-value-and-more c\nhidden-v d hidden-value-and-less hidden-value-of-another";
    let whole = told(&mask, &[text]);
    assert_eq!(whole, "a *** b *** c\nhidden-v d ***-and-less ***-of-another");
    for at in 0..=text.len() {
        for then in at..=text.len() {
            assert_eq!(told(&mask, &[&text[..at], &text[at..then], &text[then..]]), whole, "cut at {at} and {then}");
        }
    }
    let letters: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(told(&mask, &letters.iter().map(String::as_str).collect::<Vec<_>>()), whole);
}

#[test]
fn only_what_may_be_a_value_waits_and_no_longer_than_its_step() {
    let reports = mask(&["hidden-value"]).reports();
    assert_eq!(reports.pass(log("progress 10% hidden")), [log("progress 10% ")]);
    let other = BuildEvent::Log { vertex: "w".into(), text: "-value".into() };
    assert_eq!(reports.pass(other.clone()), [other], "another step's log is another text");
    let ended = |vertex: &str| BuildEvent::Vertex {
        vertex: vertex.into(),
        name: "RUN".into(),
        state: VertexState::Completed,
        duration_ms: None,
        error: None,
    };
    assert_eq!(reports.pass(ended("v")), [log("hidden"), ended("v")]);
    assert_eq!(reports.rest(), []);
}

#[test]
fn what_cannot_be_masked_is_named_once() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), " abc\n").expect("writable");
    let source = |id: &str| SecretSource { id: id.into(), value: SecretValue::File(file.path().to_owned()) };
    let gone = SecretSource { id: "gone".into(), value: SecretValue::File("/nowhere/at/all".into()) };
    let (mask, open) = Mask::of(&[source("pin"), source("pin"), gone, source("ca")]);
    assert_eq!(open.into_iter().collect::<Vec<_>>(), ["gone", "pin"]);
    assert_eq!(told(&mask, &["abc"]), "abc");
    let said = format!("{:?}", super::super::mask::Mask::new(["hidden".to_owned()].into()));
    assert_eq!(said, "Mask(1 values)");
}

#[test]
fn beside_the_gap_of_an_excerpt_no_part_of_a_value_is_left() {
    let mask = mask(&["hidden-value"]);
    let shown = |line: &str| {
        let mut fault = Fault::new(FaultKind::Build, "lian::x", "x");
        fault.log_tail = vec![line.to_owned()];
        mask.fault(fault).log_tail.remove(0)
    };
    assert_eq!(shown("a hidden-va … lue b"), "a *** … *** b");
    assert_eq!(shown("a … den-v"), "a … ***");
    assert_eq!(shown("nothing … of it"), "nothing … of it");
}

/// Ways to write a value, with the bytes that stand beside it.
fn writings(secret: &str, before: &str, behind: &str) -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let hex = |upper: bool| -> String {
        let kept = |c: &u8| c.is_ascii_alphanumeric() || b"-._~".contains(c);
        let one = |c: u8| if upper { format!("%{c:02X}") } else { format!("%{c:02x}") };
        secret.bytes().map(|c| if kept(&c) { char::from(c).to_string() } else { one(c) }).collect()
    };
    let text = format!("{before}{secret}{behind}");
    let mut all = vec![secret.to_owned(), hex(true), hex(false)];
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        all.push(engine.encode(secret));
        all.push(engine.encode(&text));
    }
    all
}

/// The longest run of letters that two texts have in common.
fn common(one: &str, other: &str) -> usize {
    let pieces = |text: &str| -> Vec<char> { text.chars().collect() };
    let (one, other) = (pieces(one), pieces(other));
    let run = |at: usize, by: usize| one[at..].iter().zip(&other[by..]).take_while(|(a, b)| a == b).count();
    (0..one.len())
        .flat_map(|at| (0..other.len()).map(move |by| (at, by)))
        .map(|(at, by)| run(at, by))
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_log_holds_a_value_however_it_is_written_and_split(
        secret in "[A-Z@:/ ?&=+%é]{3}[A-Z]{3,20}",
        before in "[a-z]{0,4}",
        behind in "[a-z]{0,4}",
        which in 0_usize..11,
        cuts in prop::collection::vec(0_usize..200, 0..20),
    ) {
        prop_assume!(secret.trim() == secret);
        let mask = mask(&[&secret]);
        let written = writings(&secret, &before, &behind).swap_remove(which);
        let text = format!("... {written} ...\n,,, {written}");
        let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut % text.len()).filter(|cut| text.is_char_boundary(*cut)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let parts: Vec<&str> = at.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        let told = told(&mask, &parts);
        prop_assert!(!told.contains(&written) && !told.contains(&secret), "{told}");
        prop_assert!(told.starts_with("... ") && told.contains(" ...\n,,, "), "what is no secret stays: {told}");
        // What is left of Base64 beside a value is what was written beside it, and a letter at each edge.
        prop_assert!(common(&told, &written) <= 8, "{told} of {written}");
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is(text in "[a-z0-9 \n./]{0,200}", cut in 0_usize..200) {
        let mask = mask(&["SECRET-VALUE", "OTHER?VALUE"]);
        let cut = cut.min(text.len());
        prop_assert_eq!(told(&mask, &[&text[..cut], &text[cut..]]), text);
    }
}
