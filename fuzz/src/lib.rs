//! What each fuzz target does with its input. The crate's tests replay the corpus through the same functions.

use fixture::gptp::{Gptp, Message, pmc, ptp4l};
use fixture::lldp::{self, Lldpdu};
use fixture::pcapng::merge::{Input, merge};
use fixture::pcapng::{Block, RawBlock, Reader};
use fixture::tsn::{self, Qcc};

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("pcapng", pcapng),
    ("merge", merge_two),
    ("lldp", lldp_json),
    ("lldpdu", lldpdu),
    ("tc", tc),
    ("qcc", qcc),
    ("gptp", gptp),
    ("ptp_message", ptp_message),
    ("pmc", pmc_output),
    ("ptp4l", ptp4l_log),
];

/// Gives the same input to every target.
pub fn all(data: &[u8]) {
    TARGETS.iter().for_each(|(_, target)| target(data));
}

/// Blocks read from any bytes read back as they were written.
pub fn pcapng(data: &[u8]) {
    let mut reader = Reader::new(data);
    while let Ok(Some(raw)) = reader.next_block() {
        let Ok(block) = Block::decode(&raw, 0) else { continue };
        let mut written = Vec::new();
        block.encode(raw.endian, &mut written);
        assert_eq!(written.len(), raw.bytes.len(), "nothing is lost or added");
        let again =
            Block::decode(&RawBlock { bytes: &written, ..raw }, 0).expect("what was written can be read");
        let mut rewritten = Vec::new();
        again.encode(raw.endian, &mut rewritten);
        assert_eq!(rewritten, written, "writing is stable");
    }
}

/// The input merged with itself.
pub fn merge_two(data: &[u8]) {
    let input = |name: &str| Input { name: name.to_owned(), source: data };
    let mut out = Vec::new();
    if let Ok(packets) = merge(vec![input("a"), input("b")], &mut out) {
        assert_eq!(packets[0], packets[1]);
    }
}

/// Neighbours that can be read are written so that they read back.
pub fn lldp_json(data: &[u8]) {
    if let Ok(neighbours) = lldp::read(data) {
        assert_eq!(lldp::read(&lldp::write(&neighbours)).expect("what was written can be read"), neighbours);
    }
}

/// Any payload of an LLDP frame.
pub fn lldpdu(data: &[u8]) {
    let _ = Lldpdu::read(data);
}

/// Any output of tc and ip.
pub fn tc(data: &[u8]) {
    if let Ok(port) = tsn::read_port("swp1", data, None) {
        let _ = port.to_interface();
    }
    let _ = tsn::read_port("swp1", b"[]", Some(data));
    let _ = tsn::read_link(data);
}

/// Switch configurations that can be read are written so that they read back.
pub fn qcc(data: &[u8]) {
    if let Ok(qcc) = Qcc::read(data) {
        assert_eq!(Qcc::read(&qcc.write()).expect("what was written can be read"), qcc);
    }
}

/// Synchronisation that can be read is written so that it reads back.
pub fn gptp(data: &[u8]) {
    if let Ok(gptp) = Gptp::read(data) {
        assert_eq!(Gptp::read(&gptp.write()).expect("what was written can be read"), gptp);
    }
}

/// Any payload of a PTP frame.
pub fn ptp_message(data: &[u8]) {
    let _ = Message::read(data);
}

/// Any output of pmc.
pub fn pmc_output(data: &[u8]) {
    if let Ok(responses) = pmc::read(&String::from_utf8_lossy(data)) {
        let _ = pmc::samples(&responses, pmc::Clock::Slave);
        let _ = pmc::samples(&responses, pmc::Clock::Master);
    }
}

/// Any log of ptp4l.
pub fn ptp4l_log(data: &[u8]) {
    ptp4l::read(&String::from_utf8_lossy(data));
}
