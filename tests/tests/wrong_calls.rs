//! Wrong calls answer what the driver's reference says, on the software GPU and at any distance: the same lines.

use tests::{Server, Transport, Way, program, run};

/// The lines of the calls.
fn answers(way: &Way) -> Vec<String> {
    let outcome = run(way.command(&program("driver", "wrong_calls")));
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
        let server = Server::start(transport);
        for way in [Way::Preload, Way::Gpurun] {
            assert_eq!(direct, answers(&way(server.address.clone())));
        }
    }
}
