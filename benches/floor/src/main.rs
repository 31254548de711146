//! The kernel's floor for motet's benchmarks: an echo server that does nothing but the system calls, and the load
//! client that drives every echo server, so that neither end of a comparison is limited by Python.

mod buffer;
mod certificate;
mod client;
mod connection;
mod datagrams;
mod driver;
mod handshakes;
mod options;
mod page;
mod ping_pong;
mod report;
mod script;
mod server;
mod tls;
mod usage;
mod wire;

use std::process::ExitCode;

use options::Command;

fn main() -> ExitCode {
    let outcome = match options::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Ok(Command::Serve(serve)) => options::prepare_process(serve.cpu).and_then(|()| server::serve(serve.port)),
        Ok(Command::Client(load)) => {
            options::prepare_process(load.cpu).and_then(|()| client::run(&load)).map(|report| println!("{report}"))
        }
        Ok(Command::Certificate(path)) => certificate::write(&path),
        Err(message) => Err(message),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("floor: {message}");
            ExitCode::FAILURE
        }
    }
}
