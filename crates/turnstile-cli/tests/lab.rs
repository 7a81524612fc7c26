//! `turnstile lab` as its users run it; and that each of its checks can fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Command, Output};

use serde_json::Value;

mod browser;

fn lab(args: &[&str]) -> Command {
    lab_for("1", args)
}

fn lab_for(seconds: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(["lab", "--seconds", seconds]).args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one object that `--json` prints.
fn object(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout:?}; {}", text(&output.stderr)))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

#[test]
fn every_claim_holds_and_json_is_one_object_of_numbers_and_claims() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("new").join("report");
    let output = lab(&["--json", "--report"]).arg(&report).output().unwrap();
    let told = object(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");

    let strategies = list(&told["strategies"]);
    let names: Vec<_> = strategies.iter().map(|strategy| strategy["name"].as_str().unwrap()).collect();
    let expected = [
        "redis-lua",
        "redis-lock",
        "redis-pubsub-lock",
        "redis-redlock",
        "redis-semaphore",
        "redis-streams",
        "kafka-offsets",
        "kafka-group",
        "kafka-mt-consumer",
        "kafka-txn",
        "kafka-partitions",
    ];
    assert_eq!(names, expected);
    for strategy in strategies {
        let metrics: &[&str] = match strategy["name"].as_str().unwrap() {
            "kafka-offsets" => &["complete_ns", "metadata_bytes", "kept_percent", "encode_us"],
            "kafka-group" => &["per_second", "p50_us", "p99_us", "takeover_kill_ms", "takeover_leave_ms"],
            "kafka-mt-consumer" => &["per_second", "p50_us", "p99_us", "takeover_kill_ms"],
            "kafka-txn" => &["per_second", "p50_us", "p99_us", "deaths", "aborted_outputs"],
            "kafka-partitions" => &["route_ns", "written_per_second", "change_ms", "closed_ms"],
            "redis-streams" => &["per_second", "p50_us", "p99_us", "takeover_ms"],
            _ => &["per_second", "p50_us", "p99_us", "max_wait_ms", "commands_per_grant"],
        };
        for metric in metrics {
            let number = strategy["metrics"][metric].as_f64();
            assert!(number.is_some_and(|number| number > 0.0), "{metric} in {strategy}");
        }
        for text in ["complexity", "guarantees", "limits"] {
            assert!(!strategy[text].as_str().unwrap().is_empty(), "{text} in {strategy}");
        }
        assert!(list(&strategy["guards"]).len() >= 3, "{strategy}");
        assert!(list(&strategy["checks"]).len() >= 3, "{strategy}");
        for check in list(&strategy["checks"]) {
            assert!(!check["claim"].as_str().unwrap().is_empty() && !check["observed"].as_str().unwrap().is_empty());
            assert_eq!(check["held"], true, "{check}");
        }
    }

    let written: Value = serde_json::from_str(&std::fs::read_to_string(report.join("report.json")).unwrap()).unwrap();
    assert_eq!(written, told);
    let page = std::fs::read_to_string(report.join("report.html")).unwrap();
    assert!(page.contains("no two holders at once"));
    if let Some(mut eye) = browser::Eye::open().unwrap() {
        assert_eq!(eye.look(&report.join("report.html")).unwrap(), Vec::<String>::new());
        eye.close().unwrap();
    }
    assert!(text(&output.stderr).contains("redis-lock: speed"), "progress is told on standard error");
}

/// Runs one strategy with guards taken away, and tells which claims fell.
#[track_caller]
fn fallen(strategy: &str, guards: &[&str]) -> Vec<String> {
    let output = lab(&["--json", "--only", strategy, "--break", &guards.join(",")]).output().unwrap();
    let told = object(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let fell = list(&told["strategies"][0]["checks"]).iter().filter(|check| check["held"] == false);
    fell.map(|check| check["claim"].as_str().unwrap().to_owned()).collect()
}

/// Without these guards all of these claims fall. Others may, since nothing is promised then.
#[track_caller]
fn breaks(strategy: &str, guards: &[&str], broken: &[&str]) {
    let fell = fallen(strategy, guards);
    for claim in broken {
        assert!(fell.iter().any(|one| one == claim), "{claim:?} should have broken without {guards:?}: {fell:?}");
    }
}

const ONE_HOLDER: &str = "no two holders at once";
const TOKENS: &str = "tokens strictly rise";
const FENCE: &str = "a holder stopped past its time to live is refused by the fence";

#[test]
fn a_lock_that_is_deleted_by_another_is_seen_as_two_holders() {
    breaks("redis-lock", &["release-compare"], &[ONE_HOLDER]);
}

#[test]
fn a_resource_without_a_fence_is_seen_to_take_late_writes() {
    breaks("redis-lock", &["fence"], &[FENCE]);
}

#[test]
fn a_fencing_counter_that_is_set_back_is_seen() {
    breaks("redis-lock", &["token"], &[TOKENS]);
}

#[test]
fn a_holder_that_does_not_know_of_its_loss_is_seen() {
    breaks("redis-lock", &["notice"], &["it knows that it lost the lease when it goes on"]);
}

#[test]
fn other_claims_of_redis_lock_break_with_their_guards() {
    let claims = [
        "a killed holder's lock is free within its time to live",
        "nothing is left behind",
        "a lost reply gives no second grant, and leaves no lock taken",
        "readers share, and a writer is alone",
        "a process asks for one waiter at a time",
    ];
    breaks("redis-lock", &["ttl", "retry", "share", "queue"], &claims);
}

const KILLED: &str = "a killed holder's lock is free within its time to live";
const LEFT: &str = "nothing is left behind";
const HUNG: &str = "it goes on while a server hangs, with one holder at a time";
const ARRIVAL: &str = "who came first is served first, over all processes";

#[test]
fn claims_of_redis_pubsub_lock_break_with_their_guards() {
    let reply = "a lost reply gives no second grant, and leaves no lock taken";
    let guards = ["release-compare", "order", "ttl", "retry"];
    breaks("redis-pubsub-lock", &guards, &[ONE_HOLDER, ARRIVAL, KILLED, LEFT, reply]);
}

#[test]
fn claims_of_redis_redlock_break_with_their_guards() {
    breaks("redis-redlock", &["release-compare", "nodes", "ttl"], &[ONE_HOLDER, HUNG, KILLED, LEFT]);
}

#[test]
fn counters_that_are_set_back_and_holders_that_know_of_no_loss_are_seen_with_the_other_locks_too() {
    let notice = "it knows that it lost the lease when it goes on";
    for strategy in ["redis-pubsub-lock", "redis-redlock"] {
        breaks(strategy, &["token", "notice"], &[TOKENS, notice]);
    }
}

#[test]
fn claims_of_redis_semaphore_break_with_their_guards() {
    let claims =
        ["never more than the limit are inside", ARRIVAL, "a killed holder's permit comes back by itself", LEFT];
    breaks("redis-semaphore", &["release-compare", "order", "ttl"], &claims);
}

#[test]
fn claims_of_redis_lua_break_with_their_guards() {
    const ATOMIC: &str = "a script is atomic: nobody sees it half done";
    const FLUSH: &str = "SCRIPT FLUSH at any time fails no call";
    let claims = [ATOMIC, "a lost connection is replaced by one new one", "a guarded write refuses older tokens"];
    breaks("redis-lua", &["atomic", "reconnect", "guarded-write"], &claims);
    // Where no call is carried out, nothing is seen to be atomic either.
    breaks("redis-lua", &["script-flush"], &[FLUSH]);
}

#[test]
fn claims_of_kafka_offsets_break_with_their_guards() {
    let claims = [
        "what is done beyond the commit point survives a crash, and nothing is missed",
        "metadata without room for all repeats what it could not tell, and misses nothing",
        "metadata that is foreign, newer, damaged or of another commit is ignored, and nothing is missed",
    ];
    breaks("kafka-offsets", &["codec", "tail", "made-for"], &claims);
}

const NO_LOSS: &str = "no record is lost when a member is killed";
const ONE_MEMBER: &str = "one member at a time works on a partition";
const IN_ORDER: &str = "the records of a partition are handled in order, one at a time";
const NOT_AHEAD: &str = "the committed offset never passes a record that is not done";
const NOT_BACK: &str = "the committed offset never goes back";
const IN_FLIGHT: &str = "after a kill no more is repeated than was in flight, from the commit on";
const LEAVE: &str = "an orderly leave loses nothing and repeats nothing";
const IDLE: &str = "a member without a partition says that it is idle, and takes over when one is free";
const POISON: &str = "a record that nobody can handle goes to the dead letters, and its partition goes on";

#[test]
fn a_consumer_that_commits_first_or_leaves_without_a_commit_or_swallows_poison_is_seen() {
    let guards = ["commit-first", "hand-over", "poison"];
    breaks("kafka-group", &guards, &[NO_LOSS, NOT_AHEAD, LEAVE, POISON]);
}

#[test]
fn a_consumer_that_goes_on_with_what_is_not_its_own_is_seen_and_a_dead_member_that_nobody_misses() {
    let fell = fallen("kafka-group", &["revoke", "session"]);
    assert!(fell.iter().any(|claim| claim == IDLE), "{fell:?}");
    // Which of them, depends on who is faster.
    assert!(fell.iter().any(|claim| [ONE_MEMBER, NOT_BACK, NOT_AHEAD].contains(&&**claim)), "{fell:?}");
}

#[test]
fn a_consumer_that_works_on_all_at_once_is_seen() {
    breaks("kafka-group", &["in-order"], &[IN_ORDER]);
}

#[test]
fn a_consumer_that_commits_an_older_offset_is_seen() {
    breaks("kafka-group", &["commit-back"], &[NOT_BACK]);
}

#[test]
fn a_consumer_that_begins_before_the_commit_is_seen() {
    breaks("kafka-group", &["start"], &[IN_FLIGHT]);
}

const EXACT: &str = "what is read as committed is f of the input, each once, whoever dies and where";
const ABORTED: &str = "what was aborted is never read as committed";
const KEY_ORDER: &str = "outputs of a key are in the order of its input";

#[test]
fn a_copier_that_commits_apart_from_its_outputs_is_seen() {
    breaks("kafka-txn", &["transaction"], &[EXACT]);
}

#[test]
fn a_reader_of_everything_is_seen_and_a_copier_without_order_by_key() {
    breaks("kafka-txn", &["isolation", "key-order"], &[ABORTED, EXACT, KEY_ORDER]);
}

#[test]
fn claims_of_kafka_mt_consumer_break_with_their_guards() {
    let order = "the records of a key are handled in order, one at a time";
    let beyond = "what was done beyond the commit point is not done again after a kill";
    let stuck = "a key that hangs stops no other";
    breaks("kafka-mt-consumer", &["lanes", "codec"], &[order, beyond]);
    breaks("kafka-mt-consumer", &["stuck"], &[stuck]);
    breaks("kafka-mt-consumer", &["commit-first"], &[NO_LOSS]);
}

#[test]
fn claims_of_kafka_partitions_break_with_their_guards() {
    let claims = [
        "each key stays in order when a topic grows, and nothing is lost",
        "a writer that was stopped writes nothing by the old route behind the barrier",
        "a move that is killed half way is taken up, and nothing is lost or overtaken",
    ];
    breaks("kafka-partitions", &["barrier", "fence-writers", "follow"], &claims);
}

#[test]
fn without_a_kafka_it_says_what_to_do() {
    let mut command = lab(&["--only", "kafka-group"]);
    command.env("TURNSTILE_SERVERS", "processes").env("TURNSTILE_KAFKA_LIBS", "/nowhere");
    let output = command.output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("./justw setup") && output.stdout.is_empty(), "{told}");
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let mut command = lab(&[]);
    command.env("TURNSTILE_SERVERS", "processes").env("TURNSTILE_REDIS_SERVER", "/nowhere/redis-server");
    let output = command.output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{told}");
    assert!(told.contains("./justw setup") && output.stdout.is_empty(), "{told}");
}

#[test]
fn an_unknown_strategy_is_bad_usage_and_the_known_ones_are_named() {
    let output = lab(&["--only", "redis-lick"]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{told}");
    assert!(told.contains("redis-lua") && told.contains("redis-lock"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_it_and_all_that_it_started() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let mut command = lab_for("600", &["--only", "redis-lock"]);
    command.env("TURNSTILE_SERVERS", "processes").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let pid = running.id();
    let mut told = BufReader::new(running.stderr.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap().contains("speed")), "it tells of its phases");
    let mut children = children_of(pid);
    while children.iter().filter(|(_, line)| line.contains("lab-worker")).count() < 4 {
        children = children_of(pid);
    }
    assert!(children.iter().any(|(_, line)| line.contains("redis-server")), "{children:?}");

    let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(130));
    for (child, line) in children {
        assert_ne!(command_line(child), Some(line), "process {child} has outlived the lab");
    }
}

#[cfg(target_os = "linux")]
fn children_of(parent: u32) -> Vec<(u32, String)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name in parentheses: the state, then the parent.
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).is_some_and(|p| p == parent.to_string())
    };
    pids.filter(is_child).filter_map(|pid| Some((pid, command_line(pid)?))).collect()
}

/// `None` for a process that is not there, or is over.
#[cfg(target_os = "linux")]
fn command_line(pid: u32) -> Option<String> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    (!line.is_empty()).then(|| line.replace('\0', " "))
}

#[test]
fn claims_of_redis_streams_break_with_their_guards() {
    let (lost, hands) = ("no job is lost", "a job is never in two workers' hands while the first is alive");
    let order = "jobs of a key are worked on one after another in order, with retries";
    let once = "an effect that comes with the acknowledgement happens once";
    let takeover = "a killed worker's jobs are taken over once it counts as dead";
    let exactly = "a job that nobody can do is set aside after exactly so many attempts";
    breaks("redis-streams", &["ack-first"], &[lost]);
    breaks("redis-streams", &["claim"], &[hands]);
    breaks("redis-streams", &["lanes", "attempts"], &[order, exactly]);
    breaks("redis-streams", &["effects"], &[once]);
    breaks("redis-streams", &["alive"], &[takeover]);
}

#[test]
fn a_short_soak_finds_nothing_and_says_what_came_over_whom() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(["lab", "--soak", "12s", "--seed", "9", "--json", "--report"]).arg(dir.path());
    let output = command.output().unwrap();
    let told = object(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!((&told["seed"], &told["rounds"]), (&9.into(), &1.into()), "{told}");
    let strategies = list(&told["strategies"]);
    assert_eq!(strategies.len(), 11);
    for strategy in strategies {
        assert!(strategy["operations"].as_u64().unwrap() > 0, "{strategy}");
        assert!(list(&strategy["violations"]).is_empty(), "{strategy}");
    }
    let faults = |of: &Value| of.as_object().unwrap().values().map(|times| times.as_u64().unwrap()).sum::<u64>();
    assert!(strategies.iter().map(|strategy| faults(&strategy["faults"])).sum::<u64>() > 20, "{told}");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("soak.json")).unwrap()).unwrap();
    assert_eq!(written, told);
    let page = dir.path().join("soak.html");
    assert!(std::fs::read_to_string(&page).unwrap().contains("all histories hold"));
    if let Some(mut eye) = browser::Eye::open().unwrap() {
        assert_eq!(eye.look_at_text(&page).unwrap(), Vec::<String>::new());
        eye.close().unwrap();
    }
    assert!(text(&output.stderr).contains("round 1, seed 9: "), "{}", text(&output.stderr));
}

#[test]
fn a_soak_without_a_guard_sees_it_and_says_how_to_repeat_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstile"));
    command.args(["lab", "--soak", "3s", "--seed", "9", "--only", "redis-lock,redis-lua", "--break"]);
    let output = command.args(["release-compare,atomic", "--report"]).arg(dir.path()).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for part in ["redis-lock: BROKEN: no two holders at once", "redis-lua: BROKEN: a script is atomic"] {
        assert!(told.contains(part), "{told}");
    }
    let again =
        "again: turnstile lab --soak 3s --seed 9 --only redis-lock,redis-lua --break release-compare --break atomic";
    assert!(told.contains(again), "{told}");
    let history = std::fs::read_to_string(dir.path().join("soak-9-redis-lock.history")).unwrap();
    assert!(history.lines().count() > 10 && history.contains("Entered"), "{history}");
}
