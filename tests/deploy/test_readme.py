"""The commands of the READMEs that need a cluster or an engine, as far as they go without: rendered, resolved."""

import os
import re
import shlex
import tempfile
import unittest

from support import BIN, CHART, HELMS, ROOT, run, tool

README = (ROOT / "README.md").read_text()
CHART_README = (CHART / "README.md").read_text()


def commands(begins: str) -> list[list[str]]:
    """The words of every command of the shell blocks that begins so, variables before it included."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", README + CHART_README, re.S):
        lines = [line for line in block.splitlines() if re.match(rf"(\w+=\S* )*{begins} ", line)]
        found += [shlex.split(line, comments=True) for line in lines]
    assert found, f"no command begins with {begins}"
    return found


class Readme(unittest.TestCase):
    @unittest.skipUnless(HELMS, "no helm")
    def test_every_helm_install_renders(self):
        values = re.search(r"```yaml\n# my-values.yaml\n(.*?)```", CHART_README, re.S)[1]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(values)
            file.flush()
            for words in commands("helm install"):
                arguments = [file.name if word == "my-values.yaml" else word for word in words[2:]]
                arguments[arguments.index("helm/overshot")] = str(CHART)
                for helm in HELMS:
                    with self.subTest(shlex.join(words), helm=helm):
                        done = run(BIN / helm, "template", *arguments)
                        self.assertEqual(done.returncode, 0, done.stderr)
                        self.assertIn("image: \"REGISTRY/overshot:", done.stdout)

    @unittest.skipUnless(tool("docker-compose"), "no docker-compose")
    def test_every_docker_compose_up_resolves(self):
        typed = commands("docker compose") + [shlex.split(one) for one in re.findall(r"`((?:\w+=\S* )?docker compose up)`", README)]
        self.assertGreaterEqual(len(typed), 3)
        for words in typed:
            at = words.index("docker")
            with self.subTest(shlex.join(words)):
                self.assertEqual(words[at : at + 3], ["docker", "compose", "up"])
                self.assertLessEqual(set(words[at + 3 :]), {"--build", "-d"})
                clean = ["env", "-u", "COMPOSE_PROFILES", "--chdir", ROOT, *words[:at]]
                done = run(*clean, tool("docker-compose"), "config", "--quiet")
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_every_file_that_the_readmes_name_is_there(self):
        places = re.findall(r"`((?:docs|deploy|helm|scripts|examples|tests|crates)/[\w./-]+)`", README + CHART_README)
        self.assertGreater(len(places), 10)
        for place in places:
            self.assertTrue(os.path.exists(ROOT / place), place)


if __name__ == "__main__":
    unittest.main()
