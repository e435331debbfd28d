//! The promises of the configuration: all mistakes at once, each with place, key and remedy.

use super::keys::{Preset, SECTIONS};
use super::*;

fn parse(text: &str) -> Result<Loaded, Mistakes> {
    Config::parse("node.toml", text, &[], false, false)
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Mistakes> {
    let variables: Vec<_> = variables.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    Config::parse("node.toml", text, &variables, false, false)
}

#[test]
fn an_empty_file_is_a_complete_configuration() {
    let config = parse("").unwrap().config;
    assert_eq!(config.public_url(), "http://127.0.0.1:5000");
    assert_eq!(config.peer_address(), "127.0.0.1:7000");
    assert_eq!(config.blobs_directory(), PathBuf::from("/var/lib/longshore/blobs"));
    assert_eq!(config.storage.index_cache_bytes.0, 16 * 1024 * 1024);
    assert_eq!(config.writes.durability_wait_ms_max.0, 15 * 60 * 1000);
    assert_eq!(config.gc.grace.0.as_millis(), u128::from(domain::limits::GRACE_MS));
    assert_eq!(config.upload.expiry.0.as_millis(), u128::from(domain::limits::UPLOAD_EXPIRY_MS));
}

#[test]
fn all_mistakes_are_told_at_once_with_line_key_and_remedy() {
    let text = "[http]\nlisten = \"nowhere\"\n\n[raft]\nprofle = \"wan\"\nsnapshot_every = 0\n[gc]\ngrace = 24\n";
    let mistakes = parse_with(text, &[("LONGSHORE_READS_STALE_HEAD", "maybe")]).unwrap_err();
    let expected = "\
5 problems in node.toml, nothing was started
  LONGSHORE_READS_STALE_HEAD   reads.stale_head      \"maybe\" is not accepted here     write \"serve\" or \"refuse\"
  node.toml:2                  http.listen           \"nowhere\" is not accepted here   write an IP address and a port such as \"127.0.0.1:5000\" or \"[::]:5000\"
  node.toml:5                  raft.profle           unknown key                      did you mean raft.profile?
  node.toml:6                  raft.snapshot_every   0 is not accepted here           write a whole number of at least 1
  node.toml:8                  gc.grace              24 is not accepted here          write a duration such as \"24h\", \"15min\", \"30s\" or \"500ms\"";
    assert_eq!(mistakes.to_string(), expected);
}

#[test]
fn broken_toml_names_its_line() {
    let mistakes = parse("[http]\nlisten = \n").unwrap_err();
    assert!(mistakes.list.iter().any(|mistake| mistake.place == "node.toml:2"), "{mistakes}");
}

#[test]
fn unknown_keys_find_their_neighbour() {
    for (text, meant) in [
        ("[raft]\nprofle = \"lan\"", "did you mean raft.profile?"),
        ("[http]\ninsecure = true", "did you mean peer.insecure?"),
        ("[storge]\ndata = \"/x\"", "did you mean storage.data?"),
        ("[peer]\nadress = \"a:1\"", "did you mean peer.address?"),
        ("[weather]\nsunshine_hours = 3", "remove it, or start with --allow-unknown-config"),
        ("loud = true", "remove it, or start with --allow-unknown-config"),
    ] {
        let mistakes = parse(text).unwrap_err();
        assert_eq!(mistakes.list.len(), 1, "{mistakes}");
        assert_eq!(mistakes.list[0].remedy, meant, "{text}");
    }
}

#[test]
fn unknown_keys_can_be_allowed_and_are_still_told() {
    let loaded = Config::parse("node.toml", "[raft]\nfuture = 1", &[], true, false).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    let wrong = Config::parse("node.toml", "[raft]\nfuture = 1\nprofile = \"fast\"", &[], true, false).unwrap_err();
    assert_eq!(wrong.list.len(), 1, "a wrong value is no unknown key");
}

#[test]
fn the_environment_overrides_the_file() {
    let text = "[http]\nlisten = \"127.0.0.1:5001\"\n[peer]\nvia = { 2 = \"127.0.0.1:9\" }";
    let variables = [
        ("LONGSHORE_HTTP_LISTEN", "127.0.0.1:6000"),
        ("LONGSHORE_PEER_VIA", "3=127.0.0.1:9003, 4=127.0.0.1:9004"),
        ("LONGSHORE_PEER_INSECURE", "true"),
        ("LONGSHORE_RAFT_SNAPSHOT_EVERY", "77"),
        ("LONGSHORE_ENDPOINTS", "belongs to cluster-cli"),
        ("LONGSHORE_HTTP_SERVICE_HOST", "10.0.0.1"),
        ("LONGSHORE_HTTP_PORT", "tcp://10.0.0.1:80"),
    ];
    let config = parse_with(text, &variables).unwrap().config;
    assert_eq!(config.http.listen.port(), 6000);
    let via: Vec<_> = config.peer.via.0.into_iter().collect();
    assert_eq!(via, [(domain::NodeId(3), "127.0.0.1:9003".into()), (domain::NodeId(4), "127.0.0.1:9004".into())]);
    assert!(config.peer.insecure);
    assert_eq!(config.raft.snapshot_every.0, 77);
    let unknown = parse_with("", &[("LONGSHORE_RAFT_PROFLE", "lan")]).unwrap_err();
    assert_eq!(unknown.list[0].place, "LONGSHORE_RAFT_PROFLE");
    assert_eq!(unknown.list[0].remedy, "did you mean raft.profile?");
}

#[test]
fn doors_that_others_reach_need_the_word_insecure() {
    for (text, key) in [
        ("[peer]\nlisten = \"10.0.0.1:7000\"", "peer.listen"),
        ("[peer]\naddress = \"paris.example.com:7000\"", "peer.address"),
        ("[peer]\nvia = { 2 = \"10.0.0.2:7000\" }", "peer.via"),
    ] {
        let mistakes = parse(text).unwrap_err();
        assert_eq!(mistakes.list.iter().map(|m| m.key.as_str()).collect::<Vec<_>>(), [key], "{mistakes}");
        assert!(mistakes.list[0].remedy.contains("peer.insecure = true"));
        let accepted = text.replace("[peer]", "[peer]\ninsecure = true");
        assert!(parse(&accepted).is_ok(), "{accepted}");
    }
    for address in ["localhost:7000", "127.0.0.1:7000", "[::1]:7000"] {
        assert!(parse(&format!("[peer]\naddress = \"{address}\"")).is_ok(), "{address}");
    }
}

#[test]
fn wildcard_doors_need_an_address_for_others() {
    let mistakes = parse("[peer]\ninsecure = true\nlisten = \"0.0.0.0:7000\"\n[http]\nlisten = \"0.0.0.0:5000\"");
    let keys: Vec<String> = mistakes.unwrap_err().list.into_iter().map(|mistake| mistake.key).collect();
    assert_eq!(keys, ["peer.address", "http.public_url"]);
}

#[test]
fn sizes_durations_and_places_mean_what_they_say() {
    let config = parse(
        "[storage]\nreserve_bytes = \"2GiB\"\n[raft]\nlog_bytes_max = 1_000\n[replication]\nbandwidth = \"10MB/s\"\n\
         [reads]\nstrict_wait_ms_max = 250\nfailover_wait_ms_max = \"3s\"\n[gc]\ngrace = \"7d\"\n\
         [region]\nplace = \"48.8566, -2.5\"\n[http]\npublic_url = \"https://r.example.com/\"",
    );
    let config = config.unwrap().config;
    assert_eq!(config.storage.reserve_bytes.map(|size| size.0), Some(2 << 30));
    assert_eq!(config.raft.log_bytes_max.0, 1000);
    assert_eq!(config.replication.bandwidth.map(|rate| rate.0), Some(10_000_000));
    assert_eq!(config.reads.strict_wait_ms_max.map(|wait| wait.0), Some(250));
    assert_eq!(config.reads.failover_wait_ms_max.map(|wait| wait.0), Some(3000));
    assert_eq!(config.gc.grace.0.as_secs(), 7 * 24 * 3600);
    let place = config.region.place.unwrap().0;
    assert_eq!((place.latitude_micros, place.longitude_micros), (48_856_600, -2_500_000));
    assert_eq!(config.public_url(), "https://r.example.com");
}

#[test]
fn wrong_values_are_refused() {
    for line in [
        "[storage]\nreserve_bytes = \"2 gigs\"",
        "[storage]\nreserve_bytes = -1",
        "[storage]\nreserve_bytes = 1.5",
        "[storage]\ndata = \"\"",
        "[gc]\ngrace = \"soon\"",
        "[replication]\nbandwidth = \"10MB\"",
        "[replication]\nfetches_max = 0",
        "[region]\nplace = \"91,0\"",
        "[region]\nplace = \"NaN,0\"",
        "[http]\npublic_url = \"registry.example.com\"",
        "[http]\npublic_url = \"https://registry.example.com/v2\"",
        "[peer]\naddress = \"paris\"",
        "[peer]\nvia = { paris = \"127.0.0.1:1\" }",
        "[peer]\nvia = { 0 = \"127.0.0.1:1\" }",
        "[peer]\ninsecure = \"true\"",
        "[log]\nlevel = \"loud\"",
        "[log]\nformat = \"xml\"",
        "[storage]\nreserve_bytes = \"99999999999TiB\"",
        "[http]\nrequests_max = 0",
        "[http]\nconnections_max = 10000000",
        "[http]\nmanifests_bytes_max = \"1MiB\"",
        "[http]\nbody_idle_ms_max = 10",
        "[http]\nbody_idle_ms_max = \"10min\"",
        "[http]\nwrite_stall_ms_max = 0",
        "[upload]\nchunk_bytes_min = \"some\"",
    ] {
        let result = parse(line);
        assert!(result.as_ref().is_err_and(|mistakes| mistakes.list.len() == 1), "{line}: {result:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_told_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let text = format!("[storage]\ndata = \"{}/data\"", file.display());
    let mistakes = Config::parse("node.toml", &text, &[], false, true).unwrap_err();
    assert_eq!((mistakes.list[0].place.as_str(), mistakes.list[0].key.as_str()), ("node.toml:2", "storage.data"));
    assert!(mistakes.list[0].problem.contains("is not a directory"), "{mistakes}");
    let text = format!("[storage]\ndata = \"{}/new/data\"", directory.path().display());
    assert!(Config::parse("node.toml", &text, &[], false, true).is_ok());
}

#[test]
fn disks_are_looked_at_beside_other_mistakes_and_by_writing() {
    // Nobody can make files there, whatever the modes say.
    let text = "[http]\nlisten = \"300.1.1.1:1\"\n[storage]\ndata = \"/proc/nope\"";
    let mistakes = Config::parse("node.toml", text, &[], false, true).unwrap_err();
    let keys: Vec<&str> = mistakes.list.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(keys, ["http.listen", "storage.data"], "{mistakes}");
    let same = "[storage]\ndata = \"/srv/one\"\nblobs = \"/srv/one\"";
    let mistakes = parse(same).unwrap_err();
    assert_eq!(mistakes.list[0].key, "storage.blobs", "{mistakes}");
}

#[test]
fn a_line_that_is_no_toml_names_no_key() {
    let mistakes = parse("x = = 1").unwrap_err();
    assert!(mistakes.list.iter().all(|mistake| mistake.remedy == "correct the TOML"), "{mistakes}");
}

#[test]
fn the_example_file_is_what_the_program_renders() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/node.example.toml");
    if std::env::var_os("LONGSHORE_TEST_BLESS").is_some() {
        std::fs::write(path, render_example()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, render_example(), "run this test with LONGSHORE_TEST_BLESS=1 to write it anew");
}

#[test]
fn the_set_up_of_three_machines_can_be_started() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/three-machines");
    let mut peers = Vec::new();
    for region in ["paris", "virginia", "tokyo"] {
        let text = std::fs::read_to_string(format!("{directory}/{region}.toml")).unwrap();
        let config = parse(&text).unwrap().config;
        assert_eq!(config.public_url(), format!("https://{region}.registry.example.com"));
        peers.push(config.peer_address());
    }
    assert_eq!(peers, ["10.1.0.4:7000", "10.2.0.4:7000", "10.3.0.4:7000"]);
}

#[test]
fn every_default_of_the_example_is_accepted_and_changes_nothing() {
    let example = render_example();
    let settings = example.lines().filter_map(|line| line.strip_prefix('#').filter(|rest| rest.contains(" = ")));
    let uncommented: String = {
        let known = |line: &&str| line.split(' ').next().is_some_and(is_key);
        let wanted: Vec<&str> = settings.filter(known).collect();
        example
            .lines()
            .map(|line| match line.strip_prefix('#').filter(|rest| wanted.contains(rest)) {
                Some(setting) if !setting.contains("unset by default") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect()
    };
    assert!(uncommented.contains("\nprofile = \"lan\"\n"), "{uncommented}");
    assert_eq!(parse(&uncommented).unwrap().config, parse("").unwrap().config);
}

fn is_key(name: &str) -> bool {
    SECTIONS.iter().flat_map(|section| section.keys).any(|key| key.name == name)
}

#[test]
fn every_example_of_an_unset_key_is_accepted() {
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        if let Preset::Unset(example) = key.preset {
            let text = format!("[peer]\ninsecure = true\n[{}]\n{} = {example}\n", key.section, key.name);
            let text = text.replace("insecure = true\n[peer]\n", "insecure = true\n");
            assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
        }
    }
}
