//! Writing a history down: a file for each who takes part, one line an event, nothing kept back in memory.
//!
//! So what was written before a process was killed is there, at the most with half a line at the end of its file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};

use super::event::{Event, How, Place, What};

/// Nanoseconds of a clock that all processes of this machine share and that never goes back.
#[must_use]
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A folder of files of events. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct History {
    folder: PathBuf,
    _temporary: Option<Arc<tempfile::TempDir>>,
}

impl History {
    /// A new one, in a folder that is removed when this and its clones are dropped.
    ///
    /// # Errors
    /// When there is no place for it.
    pub fn temporary() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("turnstile-history-").tempdir()?;
        Ok(Self { folder: folder.path().into(), _temporary: Some(Arc::new(folder)) })
    }

    /// The one in this folder, which exists: another process's.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), _temporary: None }
    }

    /// Where it is, to be told to other processes.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A recorder for `who`, a name that nobody else has: a process that is started again takes another.
    ///
    /// # Errors
    /// When the name is taken or is no file's name.
    pub fn recorder(&self, who: &str) -> Result<Recorder> {
        let path = self.folder.join(format!("{who}.events"));
        let file = File::options().append(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot begin {}: a name is for one process", path.display()))?;
        Ok(Recorder { file: Arc::new(file) })
    }

    /// All events until now, in the order of their times. Half a line at the end of a file is left out.
    ///
    /// # Errors
    /// When a file cannot be read, or has something else in it.
    pub fn events(&self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "events") {
                continue;
            }
            let who: Arc<str> = path.file_stem().unwrap_or_default().to_string_lossy().into();
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            for line in text.split_inclusive('\n') {
                let Some(line) = line.strip_suffix('\n') else { break };
                match serde_json::from_str(line) {
                    Ok((at, what)) => events.push(Event { at, who: who.clone(), what }),
                    Err(error) => bail!("{}: {line:?}: {error}", path.display()),
                }
            }
        }
        events.sort_by_key(|event| event.at);
        Ok(events)
    }
}

/// Writes down what one member, or another who takes part, does. Clones are one and the same.
#[derive(Debug, Clone)]
pub struct Recorder {
    file: Arc<File>,
}

impl Recorder {
    /// Writes down that something happens now. When this returns, it stays, even if this process is killed at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, what: &What) -> Result<()> {
        let mut line = serde_json::to_vec(&(now(), what))?;
        line.push(b'\n');
        // One write that appends: lines of several threads never mix.
        (&*self.file).write_all(&line).context("cannot write the history down")
    }

    /// Writes down that an attempt begins, and gives what writes down its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(&self, place: Place, key: Option<&str>, epoch: u64, attempt: u32) -> Result<Working> {
        self.record(&What::Started { place: place.clone(), key: key.map(Into::into), epoch, attempt })?;
        Ok(Working { recorder: self.clone(), place, epoch, attempt, ended: false })
    }
}

/// An attempt under way. Dropping it writes down that it was abandoned, as when a handler's future is dropped.
#[derive(Debug)]
#[must_use = "dropping it means that the attempt was abandoned"]
pub struct Working {
    recorder: Recorder,
    place: Place,
    epoch: u64,
    attempt: u32,
    ended: bool,
}

impl Working {
    /// Writes down that the attempt ends.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(mut self, how: How) -> Result<()> {
        self.ended = true;
        self.write(how)
    }

    fn write(&self, how: How) -> Result<()> {
        let Self { place, epoch, attempt, .. } = self;
        self.recorder.record(&What::Ended { place: place.clone(), epoch: *epoch, attempt: *attempt, how })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.ended {
            // Who reads the history sees an attempt without an end.
            let _ = self.write(How::Abandoned);
        }
    }
}
