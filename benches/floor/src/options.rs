//! The command line, and what both commands set for their process: its processor and its descriptor limit.

use std::str::FromStr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

pub const HELP: &str = "\
floor serve  [--port P] [--cpu C]
    echo server; prints the port it listens on, then serves until it is killed
floor client --port P --connections N --size S --seconds T [--warm-up T] [--cpu C] [--server-pid PID]
             [--lines true]
    load client: N connections in ping-pong, messages of S bytes, every echoed byte checked; prints one JSON line

  --port P         TCP port on 127.0.0.1 (serve: 0, the default, lets the kernel choose)
  --connections N  connections, each with one request under way at any time
  --size S         bytes per message
  --seconds T      how long to measure, after the warm-up
  --warm-up T      how long to run before measuring (default 0.3)
  --cpu C          run on processor C only
  --lines true     messages are lines (default false)
  --server-pid PID also report the processor time that this process used in the measured interval";

pub enum Command {
    Help,
    Serve(Serve),
    Client(Load),
}

#[derive(Default)]
pub struct Serve {
    pub port: u16,
    pub cpu: Option<usize>,
}

pub struct Load {
    pub port: u16,
    pub connections: usize,
    pub size: usize,
    pub lines: bool,
    pub measured: Duration,
    pub warm_up: Duration,
    pub cpu: Option<usize>,
    pub server_pid: Option<i32>,
}

pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let command = arguments.next().unwrap_or_default();
    let mut serve = Serve::default();
    let mut load = Load {
        port: 0,
        connections: 0,
        size: 0,
        lines: false,
        measured: Duration::ZERO,
        warm_up: Duration::from_millis(300),
        cpu: None,
        server_pid: None,
    };
    while let Some(option) = arguments.next() {
        if option == "--help" || option == "-h" {
            return Ok(Command::Help);
        }
        let value = arguments.next().ok_or_else(|| format!("{option} needs a value; see floor --help"))?;
        match (command.as_str(), option.as_str()) {
            ("serve", "--port") => serve.port = number(&option, &value)?,
            ("serve", "--cpu") => serve.cpu = Some(number(&option, &value)?),
            ("client", "--port") => load.port = number(&option, &value)?,
            ("client", "--connections") => load.connections = number(&option, &value)?,
            ("client", "--size") => load.size = number(&option, &value)?,
            ("client", "--lines") => load.lines = number(&option, &value)?,
            ("client", "--seconds") => load.measured = seconds(&option, &value)?,
            ("client", "--warm-up") => load.warm_up = seconds(&option, &value)?,
            ("client", "--cpu") => load.cpu = Some(number(&option, &value)?),
            ("client", "--server-pid") => load.server_pid = Some(number(&option, &value)?),
            _ => return Err(format!("{command} has no option {option}; see floor --help")),
        }
    }
    match command.as_str() {
        "serve" => Ok(Command::Serve(serve)),
        "client" if load.port == 0 || load.connections == 0 || load.size == 0 || load.measured.is_zero() => {
            Err("client needs --port, --connections, --size and --seconds, all above zero".to_owned())
        }
        "client" => Ok(Command::Client(load)),
        "" | "help" | "--help" | "-h" => Ok(Command::Help),
        other => Err(format!("no command {other:?}; there are serve and client")),
    }
}

fn number<T: FromStr>(option: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{option} {value:?} is not a number in range"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(number(option, value)?).map_err(|error| format!("{option} {value}: {error}"))
}

/// Pins the process to `cpu`, and raises its limit of open descriptors as far as it may.
pub fn prepare_process(cpu: Option<usize>) -> Result<(), String> {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).map_err(|error| format!("cannot run on processor {cpu}: {error}"))?;
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .map_err(|error| format!("cannot raise the limit of open descriptors: {error}"))
}
