"""The image's recipe and compose: linted, and in step with the programs and the chart."""

import json
import re
import tomllib
import unittest
import urllib.parse

import yaml
from support import CHART, ROOT, run, tool

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "deploy/compose/model.Dockerfile"]


class Image(unittest.TestCase):
    @unittest.skipUnless(tool("hadolint"), "no hadolint")
    def test_the_recipes_are_clean(self):
        done = run(tool("hadolint"), *DOCKERFILES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_image_is_not_root_and_says_what_it_is(self):
        text = DOCKERFILES[0].read_text()
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        self.assertIn(f"USER {values['podSecurityContext']['runAsUser']}:", text)
        for label in ("title", "description", "licenses", "version", "revision"):
            self.assertIn(f"org.opencontainers.image.{label}=", text)
        self.assertRegex(text, r"HEALTHCHECK [^\n]*overshot")

    def test_the_builder_is_the_toolchain_of_the_project(self):
        version = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
        self.assertIn(f"ARG RUST=rust:{version}-", DOCKERFILES[0].read_text())

    def test_the_build_is_given_every_member_and_no_secret(self):
        kept = (ROOT / ".dockerignore").read_text().split()
        self.assertEqual(kept[kept.index("*")], "*")
        for needed in ("!Cargo.toml", "!Cargo.lock", "!crates", "!tests/Cargo.toml"):
            self.assertIn(needed, kept)


class Compose(unittest.TestCase):
    def resolved(self, profiles: str | None = None) -> dict:
        """The services as the compose tool understands them, with these profiles or those of .env."""
        chosen = [f"COMPOSE_PROFILES={profiles}"] if profiles is not None else []
        unset = ["env", "-u", "COMPOSE_PROFILES", *chosen]
        done = run(*unset, tool("docker-compose"), "-f", COMPOSE, "config", "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["services"]

    @unittest.skipUnless(tool("docker-compose"), "no docker-compose")
    def test_monitoring_and_audio_are_profiles_and_monitoring_comes_by_itself(self):
        fleet, monitoring, audio = {"redis", "api", "worker", "model"}, {"prometheus", "grafana"}, {"whisper"}
        self.assertEqual(set(self.resolved()), fleet | monitoring)
        self.assertEqual(set(self.resolved("")), fleet)
        self.assertEqual(set(self.resolved("audio")), fleet | audio)
        self.assertEqual(set(self.resolved("monitoring,audio")), fleet | monitoring | audio)

    @unittest.skipUnless(tool("docker-compose"), "no docker-compose")
    def test_a_provider_that_may_be_left_out_sleeps_rather_than_being_down(self):
        providers = tomllib.loads((ROOT / "deploy/compose/overshot.toml").read_text())["providers"]
        hosts = {urllib.parse.urlparse(provider["base_url"]).hostname: provider for provider in providers.values()}
        always, all_of_them = self.resolved(""), self.resolved("monitoring,audio")
        self.assertEqual(all_of_them["worker"]["scale"], 2)
        for host, provider in hosts.items():
            self.assertIn(host, all_of_them)
            self.assertEqual(host not in always, "wake_command" in provider, host)

    @unittest.skipUnless(tool("docker-compose"), "no docker-compose")
    def test_nothing_is_open_to_the_network(self):
        for name, service in self.resolved("monitoring,audio").items():
            for port in service.get("ports", []):
                self.assertEqual(port.get("host_ip"), "127.0.0.1", name)

    def test_redis_keeps_what_it_is_given_and_evicts_nothing(self):
        command = yaml.safe_load(COMPOSE.read_text())["services"]["redis"]["command"]
        self.assertEqual(command[command.index("--appendonly") + 1], "yes")
        self.assertEqual(command[command.index("--maxmemory-policy") + 1], "noeviction")

    def test_every_file_that_is_mounted_exists(self):
        for name, service in yaml.safe_load(COMPOSE.read_text())["services"].items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("./"):
                    self.assertTrue((ROOT / source).exists(), f"{name}: {source}")

    @unittest.skipUnless(tool("promtool"), "no promtool")
    def test_prometheus_takes_its_configuration(self):
        done = run(tool("promtool"), "check", "config", "--syntax-only", ROOT / "deploy/compose/prometheus.yml")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
