//! Fuzzes the way from a DNS message to its reply, with any octets at all: nothing breaks, an answer is never answered, a reply
//! is a message that another reader can read, with the question as it came, about what that reader finds in the query, and
//! over UDP no larger than a client without EDNS takes or than goes through every path with it.
#![no_main]
#![allow(unsafe_code, reason = "the fuzzer's entry points are symbols with fixed names")]

mod world;

use std::{env, fs, path::Path};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::RecordType,
};
use libfuzzer_sys::fuzz_target;
use world::{NAMES, judge, name};

/// Writes questions where `cargo xtask fuzz` wants the first inputs.
fn seed() {
    let Some(directory) = env::var_os("FUZZ_SEEDS") else { return };
    let kinds = [RecordType::A, RecordType::SRV, RecordType::TXT, RecordType::ANY, RecordType::NS];
    for (at, text) in NAMES.iter().enumerate() {
        for kind in kinds {
            let mut message = Message::new(1, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name(text), kind));
            for with_edns in [false, true] {
                if with_edns {
                    message.set_edns(Edns::new());
                }
                let octets = message.to_vec().expect("a message");
                let file = format!("seed-{at}-{kind}-{with_edns}");
                fs::write(Path::new(&directory).join(file), octets).expect("a directory to write to");
            }
        }
    }
}

fuzz_target!(init: seed(), |octets: &[u8]| judge(octets));
