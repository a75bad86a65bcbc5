//! The same with messages that are nearly right: headers, questions about names that there are in all cases, records that do
//! not belong there, EDNS with any options, and here and there a number that lies. So what is behind the reader of
//! messages is tried as often as the reader.
#![no_main]
#![allow(unsafe_code, reason = "the fuzzer's entry points are symbols with fixed names")]

mod world;

use libfuzzer_sys::{
    arbitrary::{Arbitrary, Result, Unstructured},
    fuzz_target,
};
use world::{NAMES, judge};

/// Types, classes and options that mean something here; others are made up.
const KINDS: [u16; 14] = [1, 2, 5, 6, 12, 16, 28, 33, 41, 65, 250, 251, 252, 255];
const CLASSES: [u16; 4] = [1, 3, 254, 255];
const OPTIONS: [u16; 8] = [3, 5, 8, 10, 11, 12, 13, 15];

/// A message in octets.
#[derive(Debug)]
struct Made(Vec<u8>);

impl<'a> Arbitrary<'a> for Made {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        let mut sections = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..if from.ratio(1, 16)? { from.int_in_range(0..=3)? } else { 1 } {
            sections[0].push(question(from)?);
        }
        for section in &mut sections[1..] {
            for _ in 0..if from.ratio(1, 8)? { from.int_in_range(0..=2)? } else { 0 } {
                section.push(record(from)?);
            }
        }
        for _ in 0..if from.ratio(1, 16)? { 2 } else { from.int_in_range(0..=1)? } {
            sections[3].push(opt(from)?);
        }
        let mut octets = header(from, sections.each_ref().map(Vec::len))?;
        octets.extend(sections.into_iter().flatten().flatten());
        if from.ratio(1, 16)? {
            let keep = from.int_in_range(0..=octets.len())?;
            octets.truncate(keep);
        }
        octets.extend(from.bytes(from.len().min(8))?);
        Ok(Self(octets))
    }
}

/// A header that mostly says so many records, and mostly is a query's.
fn header(from: &mut Unstructured<'_>, counts: [usize; 4]) -> Result<Vec<u8>> {
    let [high, low] = if from.ratio(1, 4)? { from.arbitrary()? } else { [u8::from(from.arbitrary::<bool>()?), 0] };
    let id: [u8; 2] = from.arbitrary()?;
    let mut octets = [id, [high, low]].concat();
    for count in counts {
        let lie = if from.ratio(1, 32)? { from.arbitrary()? } else { 0_u8 };
        octets.extend([0, u8::try_from(count).unwrap_or_default().wrapping_add(lie)]);
    }
    Ok(octets)
}

/// A name that there is, or one below it, in upper and lower case; now and then what is no name.
fn name(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    for _ in 0..if from.ratio(1, 3)? { from.int_in_range(0..=5)? } else { 0 } {
        let len = from.int_in_range(1..=63)?;
        octets.push(len);
        octets.extend(from.bytes(len.into())?);
    }
    let cases: u64 = if from.arbitrary()? { from.arbitrary()? } else { 0 };
    for label in from.choose(&NAMES)?.split_terminator('.') {
        octets.push(u8::try_from(label.len()).unwrap_or_default());
        let flip = |(at, octet): (usize, u8)| {
            if cases >> (at % 64) & 1 == 1 { octet.to_ascii_uppercase() } else { octet }
        };
        octets.extend(label.bytes().enumerate().map(flip));
    }
    match from.int_in_range(0..=31)? {
        0 => octets.extend([0xc0 | from.int_in_range(0..=63)?, from.arbitrary()?]),
        1 => octets.push(from.int_in_range(64..=255)?),
        _ => octets.push(0),
    }
    Ok(octets)
}

fn one_of(from: &mut Unstructured<'_>, known: &[u16]) -> Result<[u8; 2]> {
    let number = if from.ratio(1, 8)? { from.arbitrary()? } else { *from.choose(known)? };
    Ok(number.to_be_bytes())
}

fn question(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    Ok([&name(from)?[..], &one_of(from, &KINDS)?, &one_of(from, &CLASSES)?].concat())
}

/// A record of any type, with any data, and mostly of the length that it says.
fn record(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (owner, data) = (question(from)?, with_length(from, 40)?);
    let ttl: [u8; 4] = from.arbitrary()?;
    Ok([&owner[..], &ttl, &data].concat())
}

/// EDNS, with options.
fn opt(from: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut options = Vec::new();
    for _ in 0..from.int_in_range(0..=4)? {
        options.extend(one_of(from, &OPTIONS)?);
        options.extend(with_length(from, 24)?);
    }
    let payload: u16 = if from.arbitrary()? { from.arbitrary()? } else { 1232 };
    let flags: [u8; 4] = if from.ratio(1, 8)? { from.arbitrary()? } else { [0, 0, from.arbitrary()?, 0] };
    let length = u16::try_from(options.len()).unwrap_or_default();
    Ok([&[0, 0, 41][..], &payload.to_be_bytes(), &flags, &length.to_be_bytes(), &options].concat())
}

fn with_length(from: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let len = from.int_in_range(0..=most.min(from.len()))?;
    let data = from.bytes(len)?;
    let lie = if from.ratio(1, 32)? { from.arbitrary()? } else { 0 };
    let length = u16::try_from(len).unwrap_or_default().wrapping_add(lie);
    Ok([&length.to_be_bytes()[..], data].concat())
}

fuzz_target!(|made: Made| judge(&made.0));
