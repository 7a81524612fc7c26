//! Requests that librdkafka would not send, written by hand as <https://kafka.apache.org/protocol> has them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Kafka's numbers for requests, and their versions.
const PRODUCE: [i16; 2] = [0, 3];
const OFFSET_COMMIT: [i16; 2] = [8, 2];

/// Produces a record to partition 0 whose header has this name, UTF-8 or not.
pub fn produce_with_header(broker: &str, topic: &str, value: &[u8], header: &[u8]) -> Result<()> {
    let mut record = vec![0]; // attributes
    for number in [0, 0, -1] {
        varint(&mut record, number); // time and offset after the batch's, no key
    }
    with_length(&mut record, value);
    varint(&mut record, 1);
    with_length(&mut record, header);
    with_length(&mut record, b"value");
    let mut sized = Vec::new();
    with_length(&mut sized, &record);

    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // attributes
    checked.extend(0_i32.to_be_bytes()); // the last offset after the base
    checked.extend([1_700_000_000_000_i64; 2].into_iter().flat_map(i64::to_be_bytes)); // first and last time
    checked.extend([0xff; 14]); // no producer's id, epoch and sequence
    checked.extend(1_i32.to_be_bytes());
    checked.extend(sized);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // base offset
    batch.extend(int(9 + checked.len())?); // what follows
    batch.extend((-1_i32).to_be_bytes()); // leader's epoch
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);

    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transaction
    body.extend((-1_i16).to_be_bytes()); // all replicas
    body.extend(10_000_i32.to_be_bytes());
    one_partition(&mut body, topic)?;
    body.extend(int(batch.len())?);
    body.extend(batch);
    // One topic with its name, one partition with its number, then its error.
    expect_no_error(&ask(broker, PRODUCE, &body)?, 4 + 2 + topic.len() + 4 + 4)
}

/// Commits for partition 0 with these bytes as metadata, UTF-8 or not.
pub fn commit_with_metadata(broker: &str, group: &str, topic: &str, offset: i64, metadata: &[u8]) -> Result<()> {
    let mut body = text(group)?;
    body.extend((-1_i32).to_be_bytes()); // no generation
    body.extend(text("")?);
    body.extend((-1_i64).to_be_bytes()); // kept as long as others
    one_partition(&mut body, topic)?;
    body.extend(offset.to_be_bytes());
    body.extend(i16::try_from(metadata.len())?.to_be_bytes());
    body.extend(metadata);
    expect_no_error(&ask(broker, OFFSET_COMMIT, &body)?, 4 + 2 + topic.len() + 4 + 4)
}

fn one_partition(body: &mut Vec<u8>, topic: &str) -> Result<()> {
    body.extend(1_i32.to_be_bytes());
    body.extend(text(topic)?);
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    Ok(())
}

fn expect_no_error(answer: &[u8], at: usize) -> Result<()> {
    ensure!(answer.get(at..at + 2) == Some(&[0, 0]), "the broker refused it: {answer:?}");
    Ok(())
}

/// Sends a request and gives the answer's body.
fn ask(broker: &str, [request, version]: [i16; 2], body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(broker)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut all = Vec::new();
    all.extend(request.to_be_bytes());
    all.extend(version.to_be_bytes());
    all.extend(0_i32.to_be_bytes());
    all.extend(text("by-hand")?);
    all.extend(body);
    stream.write_all(&int(all.len())?)?;
    stream.write_all(&all)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    ensure!(answer.len() >= 4, "the broker's answer is too short");
    Ok(answer.split_off(4))
}

fn int(number: usize) -> Result<[u8; 4]> {
    Ok(i32::try_from(number)?.to_be_bytes())
}

fn text(text: &str) -> Result<Vec<u8>> {
    Ok([&i16::try_from(text.len())?.to_be_bytes(), text.as_bytes()].concat())
}

fn with_length(to: &mut Vec<u8>, bytes: &[u8]) {
    varint(to, bytes.len() as i64);
    to.extend(bytes);
}

/// Zigzag, seven bits a byte.
fn varint(to: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest > 0x7f {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}
