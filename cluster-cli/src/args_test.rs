//! The command line: what it accepts, what it refuses, what it means.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Verb, clap::error::ErrorKind> {
    let words = std::iter::once("cluster-cli").chain(line.split_whitespace());
    Arguments::try_parse_from(words).map(|arguments| arguments.verb).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn every_verb_of_the_guide_is_understood() {
    for line in [
        "dev",
        "dev --regions 7 --ephemeral --profile wan",
        "dev --data /tmp/x --http-port 15001 --peer-port 17001 --node-binary /bin/node",
        "init --region paris",
        "init --node 10.1.0.4:7000 --region paris --durability all --place -33.9,151.2",
        "join 10.1.0.4:7000 --region tokyo",
        "join 10.1.0.4:7000 --node 10.2.0.4:7000 --region tokyo --replace 3",
        "join 10.1.0.4:7000 --attach --region tokyo",
        "leave tokyo --dry-run",
        "leave tokyo --force --yes",
        "regions --json",
        "status --watch --json --endpoint 127.0.0.1:1,127.0.0.1:2 --endpoint 127.0.0.1:3",
        "policy set team --durability 2",
        "policy set team --sparse accept --immutable-tags v* --immutable-tags 1.?",
        "policy set team --immutable-tags=",
        "policy show",
        "policy show team/api --json",
        "tags history team/api latest --limit 5 --json",
        "tags rollback team/api latest",
        "tags rollback team/api latest --to 128417 --json",
        "sync --node 10.2.0.4:7000",
        "sync --node 10.2.0.4:7000 --confirm-loss --json",
        "transfer-leader tokyo",
        "transfer-leader",
        "bench push http://127.0.0.1:5001 --size 1MiB --count 256 --connections 8",
        "bench pull 127.0.0.1:5001 127.0.0.1:5003 --json",
        "bench manifests http://127.0.0.1:5001 --no-machine --directory /tmp",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
    }
}

#[test]
fn wrong_usage_is_refused_by_the_door() {
    for line in [
        "dev --regions 0",
        "dev --regions 8",
        "dev --data x --ephemeral",
        "init",
        "init --region Paris",
        "init --region paris --durability most",
        "init --region paris --node 10.1.0.4",
        "init --region paris --place 91,0",
        "join --region tokyo",
        "join 10.1.0.4:7000",
        "join 10.1.0.4:7000 --region tokyo --attach --replace 3",
        "status --endpoint nowhere",
        "policy set team",
        "policy set team --sparse maybe",
        "policy show Team",
        "tags history team/api",
        "tags history team/api .hidden",
        "tags rollback team/api latest --to yesterday",
        "sync --confirm-loss",
        "bench push",
        "bench push https://127.0.0.1:5001",
        "bench pull 127.0.0.1:5001 --size 12",
        "fly",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn endpoints_default_to_the_dev_cluster_and_may_be_repeated() {
    let Ok(Verb::Status(status)) = parse("status") else { panic!("status is understood") };
    if std::env::var_os("LONGSHORE_ENDPOINTS").is_none() {
        assert_eq!(status.endpoints.endpoints, ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]);
    }
    let Ok(Verb::Status(status)) = parse("status --endpoint a:1,b:2 --endpoint http://c:3") else {
        panic!("endpoints are understood")
    };
    assert_eq!(status.endpoints.endpoints, ["a:1", "b:2", "c:3"]);
}
