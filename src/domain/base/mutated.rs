//! Hostile variants of sound samples, for the tests of readers of foreign bytes. Not responsible for: what a reader makes
//! of them.

use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Bytes of the longest variant.
pub const LONGEST: usize = 64 << 10;

/// What readers stumble over: cut characters, other scripts' marks, commands of terminals, numbers at and beyond a bound.
const ODD: [&[u8]; 26] = [
    b"",
    b"\0",
    b"\r\n",
    b"\n",
    b"\t \x0b\x0c",
    b"\x1b[2J\x1b]0;x\x07",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f\xa6",
    "\u{feff}".as_bytes(),
    "\u{202e}\u{2066}".as_bytes(),
    "e\u{301}\u{10ffff}\u{1f980}".as_bytes(),
    "\u{130}\u{df}\u{2028}".as_bytes(),
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1e999",
    b"NaN",
    b"\\ud800",
    b"\"",
    b"\\",
    b"${",
    b"**/[!]",
    b"{\"a\":",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// A change of some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Cut(Index, Index),
    Repeat(Index, Index, usize),
    Splice(Index, Index, Index, Index),
    Insert(Index, &'static [u8]),
}

/// Some of the samples with bytes flipped, cut out, repeated, taken from another, or odd ones inserted; now and then bytes
/// that resemble none.
pub fn mutated(samples: Vec<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let index = any::<Index>;
    let edit = prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        (index(), index()).prop_map(|(from, to)| Edit::Cut(from, to)),
        (index(), index(), 2..200_usize).prop_map(|(from, to, times)| Edit::Repeat(from, to, times)),
        (index(), index(), index(), index()).prop_map(|(other, from, to, at)| Edit::Splice(other, from, to, at)),
        (index(), select(ODD.to_vec())).prop_map(|(at, odd)| Edit::Insert(at, odd)),
    ];
    let changed = (index(), vec(edit, 0..8)).prop_map(move |(chosen, edits)| {
        let mut bytes = chosen.get(&samples).clone();
        edits.iter().for_each(|edit| apply(edit, &mut bytes, &samples));
        bytes
    });
    prop_oneof![9 => changed, 1 => vec(any::<u8>(), 0..500)].boxed()
}

/// As [`mutated`], of texts.
pub fn mutated_texts(samples: &[&str]) -> BoxedStrategy<Vec<u8>> {
    mutated(samples.iter().map(|sample| sample.as_bytes().to_vec()).collect())
}

/// Some of the samples with values replaced by odd ones and by each other, left out or doubled; or with bytes changed, as
/// [`mutated`].
pub fn mutated_json(samples: Vec<Value>) -> BoxedStrategy<Vec<u8>> {
    let texts = samples.iter().map(|sample| sample.to_string().into_bytes()).collect();
    let change = prop_oneof![
        4 => (any::<Index>(), select(odd_values())).prop_map(|(at, odd)| (at, Some(odd), None)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, other)| (at, None, Some(other))),
        1 => any::<Index>().prop_map(|at| (at, None, None)),
    ];
    let changed = (any::<Index>(), vec(change, 0..6)).prop_map(move |(chosen, changes)| {
        let mut value = chosen.get(&samples).clone();
        for (at, odd, other) in changes {
            let count = nodes(&value);
            let other = other.and_then(|other| nth(&mut value, &mut other.index(count)).cloned());
            let place = nth(&mut value, &mut at.index(count)).expect("a node of that number");
            match odd.or(other) {
                Some(new) => *place = new,
                None => thin(place),
            }
        }
        let mut bytes = value.to_string().into_bytes();
        bytes.truncate(4 * LONGEST);
        bytes
    });
    prop_oneof![3 => changed, 1 => mutated(texts)].boxed()
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
    match edit {
        Edit::Flip(at, mask) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        Edit::Flip(..) => {}
        Edit::Cut(from, to) => drop(bytes.drain(between(bytes.len(), from, to))),
        Edit::Repeat(from, to, times) => {
            let range = between(bytes.len(), from, to);
            let again = bytes[range.clone()].repeat(*times);
            bytes.splice(range, again);
        }
        Edit::Splice(other, from, to, at) => {
            let other = other.get(samples);
            let piece = other[between(other.len(), from, to)].to_vec();
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, piece);
        }
        Edit::Insert(at, odd) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, odd.iter().copied());
        }
    }
    bytes.truncate(LONGEST);
}

fn between(length: usize, one: &Index, other: &Index) -> Range<usize> {
    let (one, other) = (one.index(length + 1), other.index(length + 1));
    one.min(other)..one.max(other)
}

fn odd_values() -> Vec<Value> {
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    let texts = ODD.iter().map(|odd| Value::from(String::from_utf8_lossy(odd)));
    let others = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(0.5),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(1e308),
        json!(-1e308),
        json!([]),
        json!({}),
        json!("18446744073709.551615"),
        json!("18446744073709.5516151"),
        json!("-0.01"),
        json!("inf"),
        json!("9999-12-31T23:59:59Z"),
        json!("-009999-01-01T00:00:00Z"),
        json!("x".repeat(LONGEST)),
        deep,
    ];
    texts.chain(others).collect()
}

/// Leaves out the first of several values, and doubles the last.
fn thin(value: &mut Value) {
    match value {
        Value::Array(list) if !list.is_empty() => {
            list.remove(0);
            list.extend(list.last().cloned());
        }
        Value::Object(map) => {
            let first = map.keys().next().cloned();
            first.and_then(|key| map.remove(&key));
        }
        _ => *value = Value::Null,
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

/// The value at this place, each before what it holds.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|inner| nth(inner, left)),
        Value::Object(map) => map.values_mut().find_map(|inner| nth(inner, left)),
        _ => None,
    }
}
