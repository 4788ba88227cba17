//! Wrong calls answer what the driver's reference says, on the software GPU and at any distance: the same lines.

use tests::{Server, Transport, Way, program, run};

/// Two devices of a kind that has multicast objects.
const MACHINE: [(&str, &str); 2] = [("GPURUN_SOFT_GPUS", "2"), ("GPURUN_SOFT_CC", "9.0")];

/// The lines of the calls.
fn answers(way: &Way) -> Vec<String> {
    let mut command = way.command(&program("driver", "wrong_calls"));
    command.envs(MACHINE).env("GPURUN_DEVICES", "2");
    let outcome = run(command);
    outcome.assert_passed(&format!("wrong_calls ({way:?})"));
    let lines = outcome.stdout.lines();
    let checks = lines.filter(|line| line.starts_with("check "));
    checks.map(str::to_owned).collect()
}

#[test]
fn wrong_calls_answer_the_same_everywhere() {
    let direct = answers(&Way::Direct);
    assert!(direct.len() > 250, "{} calls", direct.len());
    for transport in [Transport::Tcp, Transport::Unix] {
        let server = Server::start_with(transport, &MACHINE);
        for way in [Way::Preload, Way::Gpurun] {
            assert_eq!(direct, answers(&way(server.address.clone())));
        }
    }
}
