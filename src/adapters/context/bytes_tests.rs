//! What the reader of ignore files does with bytes that nobody meant to be one. Not responsible for: what patterns mean
//! (see `tests`, and the comparison with BuildKit's own reader).

use proptest::collection::vec;
use proptest::prelude::*;

use super::effort::{Effort, TooMuch};
use super::ignore::{Ignore, Inherited};
use super::odd::odd_files;
use super::pattern::{Pattern, done};
use crate::domain::base::mutated::mutated_texts;

const SAMPLES: [&str; 4] = [
    "\u{feff}# a comment\ntarget\n!target/x\n**/*.rs\n*\n!src/**\n",
    "/a/../b/./c\r\n  !  d  \n[a-c^]x?\\*\n**\n**/x/**\n[^]]\n[\\-]\n\\d+\n",
    "a*a*a*a*a*a*a*a*a*a*a*a*b\n**/**/**/**/x\n????[a-z]\n!**/keep\n",
    include_str!("../../../.gitignore"),
];
const PATHS: [&str; 3] = ["a/b/c.rs", "target/debug/x-1.d", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/src/\u{fc}\n"];

proptest! {
    #[test]
    fn any_bytes_are_an_ignore_file_or_say_their_line(
        bytes in mutated_texts(&SAMPLES),
        paths in vec(mutated_texts(&PATHS), 1..4),
    ) {
        // Enough to stumble over, and few enough for an unoptimised build: matching takes the product of both.
        let bytes = &bytes[..bytes.len().min(2048)];
        let lines = bytes.split(|byte| *byte == b'\n').count();
        match Ignore::parse(bytes) {
            Ok(ignore) => {
                let ignore = ignore.without_own();
                let (mut above, mut effort) = (Inherited::default(), Effort::default());
                for path in &paths {
                    let path = &path[..path.len().min(128)];
                    let (_, inherited) = ignore.excludes(path, &above, &mut effort).expect("little work");
                    ignore.may_except_below(path, &mut effort).expect("little work");
                    ignore.leaves_out_source(&String::from_utf8_lossy(&path[..path.len().min(48)]));
                    above = inherited;
                }
            }
            Err((line, what)) => prop_assert!((1..=lines).contains(&line) && !what.is_empty(), "{line}: {what}"),
        }
    }
}

proptest! {
    #[test]
    fn a_path_lies_below_a_match_if_a_folder_above_it_matches(pattern in "[*/a?\\[\\]-]{1,6}", path in "[/a]{0,7}") {
        if let Ok(pattern) = Pattern::new(&pattern) {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            let one_by_one = above.chain([path.as_str()]).any(|path| pattern.matches(path.as_bytes()));
            prop_assert_eq!(pattern.matches_or_above(&path), one_by_one, "{:?}", pattern);
        }
    }
}

/// A source of many folders is gone through once, not once for each folder above it.
#[test]
fn what_is_copied_is_compared_once_with_each_pattern() {
    let patterns = "x*y?z\n[a-c]b\nx**/y\n*x\n";
    let ignore = Ignore::parse(patterns).expect("sound");
    let source = "a/".repeat(500);
    done::take();
    assert!(!ignore.leaves_out_source(&source));
    let comparisons = done::take();
    assert!(comparisons > 0 && comparisons <= ignore.comparisons(source.len()), "{comparisons}");
    assert!(ignore.comparisons(source.len()) <= 2 * patterns.len() * source.len());
}

/// Each pattern, and each character of a wildcard, is paid for: with every entry of a context, whatever is matched.
#[test]
fn the_patterns_of_a_context_take_no_more_work_than_is_left() {
    let star = |count: usize| "*a*a*a*a*b\n".repeat(count);
    let path = "a".repeat(100);
    for text in ["x\n".repeat(10_000), star(1_000), "*\n!*\n".repeat(5_000), "x/**\n**/x\n!y\n".repeat(3_000)] {
        let ignore = Ignore::parse(&text).expect("sound");
        let patterns = text.lines().count();
        let mut effort = Effort::of(1 << 24, usize::MAX);
        let (mut entries, mut compared) = (0, 0);
        done::take();
        while ignore.excludes(&path, &Inherited::default(), &mut effort).is_ok() {
            ignore.may_except_below(&path, &mut effort).unwrap_or_default();
            entries += 1;
            compared += done::take();
        }
        assert!(entries * patterns + compared <= 1 << 24, "{entries} entries, {compared} comparisons");
        assert!(entries > 0, "one entry is no matter");
    }
}

/// What a folder has matched is kept until it is read: a wide context with many patterns must not fill the memory.
#[test]
fn the_matches_that_wait_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in 0..50 {
        std::fs::create_dir(folder.path().join(name.to_string())).expect("a folder");
    }
    let ignore = Ignore::parse("*\n!*\n".repeat(500)).expect("sound");
    let walk = |held| odd_files(&ignore, folder.path(), &|| false, &mut Effort::of(u64::MAX, held));
    assert_eq!(walk(40_000), Err(TooMuch));
    assert_eq!(walk(60_000), Ok(Vec::new()));
}
