//! Child processes that are stopped, continued and killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use tokio::time::timeout;
use turnstile_testkit::child::Child;

fn cat() -> Child {
    Child::spawn(Command::new("cat")).unwrap()
}

#[tokio::test]
async fn a_stopped_child_says_nothing_until_it_goes_on() {
    let mut child = cat();
    child.stop().unwrap();
    child.say("hello").await.unwrap();
    assert!(timeout(Duration::from_millis(150), child.line()).await.is_err());
    child.cont().unwrap();
    assert_eq!(child.line_with("hell").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_child_can_be_stopped_again_and_killed_while_stopped() {
    let mut child = cat();
    for _ in 0..3 {
        child.stop().unwrap();
        child.cont().unwrap();
    }
    child.stop().unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    assert_eq!(child.line().await, None);
    child.kill().unwrap_err();
}

#[tokio::test]
async fn a_child_that_ends_by_itself_keeps_its_lines_and_its_status() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; echo two; exit 7"]);
    let mut child = Child::spawn(command).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
    assert_eq!((child.line().await, child.line().await), (Some("one".to_owned()), Some("two".to_owned())));
    let error = child.line_with("three").await.unwrap_err();
    assert!(error.to_string().contains("ended its output"), "{error}");
}

#[tokio::test]
async fn a_dropped_child_takes_its_children_with_it() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo started; wait"]).stderr(writer);
    let mut child = Child::spawn(command).unwrap();
    child.line_with("started").await.unwrap();
    drop(child);
    // The pipe ends when the last process that has it is gone.
    let read = tokio::task::spawn_blocking(move || std::io::read_to_string(reader));
    timeout(Duration::from_secs(30), read).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Child::spawn(Command::new("no-such-program")).unwrap_err();
    assert!(format!("{error:#}").contains("no-such-program"), "{error:#}");
}
