//! The kernel's floor for motet's benchmarks: an echo server that does nothing but the system calls, and the load
//! client that drives every echo server, so that neither end of a comparison is limited by Python.

mod client;
mod connection;
mod options;
mod server;
mod usage;

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
