"""The chart's objects, toggle by toggle: what each value makes, changes and takes away."""

import copy
import json
import re
import unittest

import yaml
from support import CHART, HELMS, ROOT, TRIAL, helm_template, merge, render

SECRET = {"auth": {"existingSecret": "tokens"}}
ASR = {
    "config": '[pools.chat]\nproviders = ["sim"]\n[pools.asr]\nproviders = ["sim"]\n[providers.sim]\nkind = "simulated"\n',
    "pools": {"asr": {}},
}


def worker(**values: object) -> dict:
    """Values of the pool chat's workers."""
    return {"pools": {"chat": values}}


def keda(**values: object) -> dict:
    return worker(autoscaling={"type": "keda", "keda": values})


@unittest.skipUnless(HELMS, "no helm")
class Objects(unittest.TestCase):
    def test_a_plain_install_is_api_workers_and_what_they_need(self):
        plain = render({"redis": {"url": "redis://redis:6379/0"}})
        kinds = ["ConfigMap", "Deployment", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount"]
        self.assertEqual(plain.kinds(), kinds)
        self.assertEqual(plain.names("Deployment"), ["rel-overshot-api", "rel-overshot-worker-chat"])

    def test_both_helms_render_the_same(self):
        values = everything()
        texts = [yaml.safe_dump(render(values, helm=helm).objects) for helm in HELMS]
        self.assertTrue(all(text == texts[0] for text in texts))

    def test_each_pool_has_workers_of_its_own(self):
        two = render(ASR, {"pools": {"asr": {"replicas": 3, "drainSeconds": 900}}})
        self.assertEqual(two.get("Deployment", "rel-overshot-worker-asr")["spec"]["replicas"], 3)
        self.assertEqual(two.get("Deployment", "rel-overshot-worker-chat")["spec"]["replicas"], 1)
        asr = two.env("rel-overshot-worker-asr")
        self.assertEqual((asr["OVERSHOT_WORKER_POOLS"], asr["OVERSHOT__WORKER__DRAIN"]), ("asr", "900s"))
        selectors = [d["spec"]["selector"]["matchLabels"] for d in two.all("Deployment")]
        self.assertEqual(len({json.dumps(selector) for selector in selectors}), 3)

    def test_a_pool_may_say_no_and_zero_over_the_defaults(self):
        off = render({"worker": {"replicas": 2}}, worker(replicas=0, pdb={"enabled": False}))
        self.assertEqual(off.get("Deployment", "rel-overshot-worker-chat")["spec"]["replicas"], 0)
        self.assertEqual(off.names("PodDisruptionBudget"), ["rel-overshot-api"])

    def test_a_null_takes_the_default_pool_away(self):
        self.assertEqual(render(ASR, {"pools": {"chat": None}}).names("Deployment")[1:], ["rel-overshot-worker-asr"])

    def test_long_names_are_cut_and_stay_apart(self):
        pools = ["a" * 39 + last for last in "xy"]
        config = "".join(f'[pools.{pool}]\nproviders = ["sim"]\n' for pool in pools)
        values = {"config": config, "pools": {"chat": None, **{pool: {} for pool in pools}}}
        names = render(values, release="r" * 50).names("Deployment")
        self.assertEqual(len(set(names)), 3)
        self.assertLessEqual(max(map(len, names)), 63)

    def test_selectors_survive_an_upgrade(self):
        for thing in render(everything()).objects:
            if thing["kind"] in ("Deployment", "StatefulSet"):
                selector = thing["spec"]["selector"]["matchLabels"]
                labels = thing["spec"]["template"]["metadata"]["labels"]
                self.assertLessEqual(selector.items(), labels.items())
                self.assertFalse({"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys())

    def test_every_object_bears_the_standard_and_the_common_labels(self):
        for thing in render(everything(), {"commonLabels": {"team": "ml"}}).objects:
            if thing["metadata"]["name"] == "extra":
                continue
            labels = thing["metadata"]["labels"]
            self.assertEqual(labels["team"], "ml", thing["metadata"])
            wanted = ("name", "instance", "component", "version", "managed-by", "part-of")
            self.assertLessEqual({f"app.kubernetes.io/{name}" for name in wanted}, labels.keys())


@unittest.skipUnless(HELMS, "no helm")
class Pods(unittest.TestCase):
    NAMES = ("rel-overshot-api", "rel-overshot-worker-chat")

    def test_pods_are_locked_down_and_get_no_service_variables(self):
        for name in self.NAMES:
            pod = render().pod(name)
            self.assertIs(pod["enableServiceLinks"], False)
            self.assertIs(pod["automountServiceAccountToken"], False)
            self.assertIs(pod["securityContext"]["runAsNonRoot"], True)
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            container = pod["containers"][0]["securityContext"]
            self.assertIs(container["readOnlyRootFilesystem"], True)
            self.assertIs(container["allowPrivilegeEscalation"], False)
            self.assertEqual(container["capabilities"], {"drop": ["ALL"]})

    def test_an_empty_pod_security_context_is_left_to_the_cluster(self):
        for name in self.NAMES:
            self.assertNotIn("securityContext", render({"podSecurityContext": None}).pod(name))

    def test_the_image_is_the_digest_else_the_tag_else_the_version_of_the_app(self):
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
        digest = "sha256:" + "0" * 64
        for image, wanted in [
            ({}, f"overshot:{version}"),
            ({"repository": "r.example/o", "tag": "9"}, "r.example/o:9"),
            ({"tag": "9", "digest": digest}, f"overshot@{digest}"),
        ]:
            for name in self.NAMES:
                self.assertEqual(render({"image": image}).pod(name)["containers"][0]["image"], wanted)

    def test_another_configuration_restarts_the_pods(self):
        def checksums(*values):
            deployments = render(*values).all("Deployment")
            return {d["spec"]["template"]["metadata"]["annotations"]["checksum/config"] for d in deployments}

        before, after = checksums(), checksums(ASR)
        self.assertEqual((len(before), len(after)), (1, 1))
        self.assertNotEqual(before, after)

    def test_the_configuration_may_be_a_map_of_ones_own(self):
        own = render({"existingConfigMap": "mine"})
        self.assertEqual(own.all("ConfigMap"), [])
        for name in self.NAMES:
            self.assertIn({"name": "config", "configMap": {"name": "mine"}}, own.pod(name)["volumes"])

    def test_a_worker_gets_its_drain_and_a_margin_before_it_is_killed(self):
        pod = render(worker(drainSeconds=3600, terminationMarginSeconds=20))
        self.assertEqual(pod.pod("rel-overshot-worker-chat")["terminationGracePeriodSeconds"], 3620)
        self.assertEqual(pod.env("rel-overshot-worker-chat")["OVERSHOT__WORKER__DRAIN"], "3600s")

    def test_the_api_leaves_the_service_before_it_stops(self):
        pod = render({"api": {"preStopSeconds": 7}}).pod("rel-overshot-api")
        self.assertEqual(pod["containers"][0]["lifecycle"], {"preStop": {"sleep": {"seconds": 7}}})
        self.assertNotIn("lifecycle", render({"api": {"preStopSeconds": 0}}).pod("rel-overshot-api")["containers"][0])

    def test_liveness_does_not_hang_on_redis_and_readiness_does(self):
        for name in self.NAMES:
            container = render().pod(name)["containers"][0]
            self.assertEqual(container["livenessProbe"]["httpGet"]["path"], "/healthz")
            self.assertEqual(container["readinessProbe"]["httpGet"]["path"], "/readyz")

    def test_placement_and_extras_reach_the_pods(self):
        extras = {
            "nodeSelector": {"gpu": "no"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "extraEnv": [{"name": "A", "value": "b"}],
            "extraEnvFrom": [{"secretRef": {"name": "s"}}],
            "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/ca"}],
            "podAnnotations": {"a": "b"},
            "podLabels": {"l": "m"},
        }
        rendered = render({"api": extras, "worker": extras, "imagePullSecrets": [{"name": "pull"}]})
        for name in self.NAMES:
            pod = rendered.pod(name)
            for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
                self.assertEqual(pod[key], extras[key])
            spread = pod["topologySpreadConstraints"][0]
            selector = rendered.get("Deployment", name)["spec"]["selector"]
            self.assertEqual((spread["topologyKey"], spread["labelSelector"]), ("zone", selector))
            self.assertEqual(pod["imagePullSecrets"], [{"name": "pull"}])
            self.assertIn(extras["extraVolumes"][0], pod["volumes"])
            self.assertIn(extras["extraVolumeMounts"][0], pod["containers"][0]["volumeMounts"])
            self.assertEqual(pod["containers"][0]["envFrom"], extras["extraEnvFrom"])
            self.assertEqual(rendered.env(name)["A"], "b")
            meta = rendered.get("Deployment", name)["spec"]["template"]["metadata"]
            self.assertEqual((meta["annotations"]["a"], meta["labels"]["l"]), ("b", "m"))

    def test_service_accounts_are_ones_own_where_named(self):
        own = render({"serviceAccount": {"create": False, "name": "mine"}})
        self.assertEqual(own.all("ServiceAccount"), [])
        for name in self.NAMES:
            self.assertEqual(own.pod(name)["serviceAccountName"], "mine")
            self.assertEqual(render().pod(name)["serviceAccountName"], name.replace("-chat", ""))


@unittest.skipUnless(HELMS, "no helm")
class Secrets(unittest.TestCase):
    def test_redis_is_a_url_a_secret_or_a_url_with_a_password_from_a_secret(self):
        def env(redis):
            return render({"redis": redis}).env("rel-overshot-worker-chat")

        self.assertEqual(env({"url": "rediss://r:1/0"})["OVERSHOT_REDIS_URL"], "rediss://r:1/0")
        secret = {"secretKeyRef": {"name": "s", "key": "url"}}
        self.assertEqual(env({"existingSecret": "s"})["OVERSHOT_REDIS_URL"], secret)
        both = env({"url": "redis://u:$(OVERSHOT_REDIS_PASSWORD)@r:1/0", "passwordSecret": "p"})
        names = list(both)
        # Kubernetes expands only what is set before.
        self.assertLess(names.index("OVERSHOT_REDIS_PASSWORD"), names.index("OVERSHOT_REDIS_URL"))
        self.assertEqual(both["OVERSHOT_REDIS_PASSWORD"], {"secretKeyRef": {"name": "p", "key": "password"}})

    def test_certificates_for_redis_are_mounted_where_their_variables_point(self):
        tls = {"caSecret": "authority", "caSecretKey": "root.pem", "clientSecret": "fleet"}
        made = render({"redis": {"url": "rediss://r:1/0", "tls": tls}})
        for name in ("rel-overshot-api", "rel-overshot-worker-chat"):
            pod = made.pod(name)
            volumes = {volume["name"]: volume.get("secret") for volume in pod["volumes"]}
            self.assertEqual(volumes["redis-ca"], {"secretName": "authority", "items": [{"key": "root.pem", "path": "ca.crt"}]})
            self.assertEqual(volumes["redis-client"], {"secretName": "fleet"})
            mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
            env = made.env(name)
            self.assertEqual(env["OVERSHOT_REDIS_CA_FILE"], f"{mounts['redis-ca']}/ca.crt")
            self.assertEqual(env["OVERSHOT_REDIS_CERT_FILE"], f"{mounts['redis-client']}/tls.crt")
            self.assertEqual(env["OVERSHOT_REDIS_KEY_FILE"], f"{mounts['redis-client']}/tls.key")
        self.assertNotIn("redis-c", render({"redis": {"url": "rediss://r:1/0"}}).text)

    def test_an_unsafe_redis_is_allowed_only_when_asked(self):
        self.assertNotIn("OVERSHOT_ALLOW_UNSAFE_REDIS", render().env("rel-overshot-api"))
        unsafe = render({"redis": {"allowUnsafe": True}}).env("rel-overshot-api")
        self.assertEqual(unsafe["OVERSHOT_ALLOW_UNSAFE_REDIS"], "1")

    def test_tokens_go_to_the_api_and_provider_keys_to_the_workers(self):
        keys = [{"env": "KEY", "existingSecret": "k", "key": "v"}]
        rendered = render(SECRET, {"providerSecrets": keys})
        api, workers = rendered.env("rel-overshot-api"), rendered.env("rel-overshot-worker-chat")
        self.assertEqual(api["OVERSHOT_API_TOKEN"], {"secretKeyRef": {"name": "tokens", "key": "token"}})
        self.assertEqual(workers["KEY"], {"secretKeyRef": {"name": "k", "key": "v"}})
        self.assertNotIn("KEY", api)
        self.assertNotIn("OVERSHOT_API_TOKEN", workers)

    def test_named_tokens_go_to_the_api_and_keda_has_one_of_its_own(self):
        tokens = [{"env": "TEAM", "existingSecret": "t", "key": "v"}]
        rendered = render(keda(), {"auth": {"tokenSecrets": tokens, "scalerSecret": "s", "scalerSecretKey": "k"}})
        self.assertEqual(rendered.env("rel-overshot-api")["TEAM"], {"secretKeyRef": {"name": "t", "key": "v"}})
        self.assertNotIn("TEAM", rendered.env("rel-overshot-worker-chat"))
        (secret,) = rendered.all("TriggerAuthentication")[0]["spec"]["secretTargetRef"]
        self.assertEqual(secret, {"parameter": "token", "name": "s", "key": "k"})

    def test_the_trial_redis_keeps_what_it_is_given_and_evicts_nothing(self):
        trial = render()
        args = trial.get("StatefulSet", "rel-overshot-redis")["spec"]["template"]["spec"]["containers"][0]["args"]
        self.assertEqual(args[args.index("--appendonly") + 1], "yes")
        self.assertEqual(args[args.index("--maxmemory-policy") + 1], "noeviction")
        self.assertEqual(trial.env("rel-overshot-api")["OVERSHOT_REDIS_URL"], "redis://rel-overshot-redis:6379/0")
        self.assertIn("volumeClaimTemplates", trial.get("StatefulSet", "rel-overshot-redis")["spec"])
        bare = render({"redis": {"trial": {"persistence": {"enabled": False}}}})
        self.assertNotIn("volumeClaimTemplates", bare.get("StatefulSet", "rel-overshot-redis")["spec"])


@unittest.skipUnless(HELMS, "no helm")
class Scaling(unittest.TestCase):
    NAME = "rel-overshot-worker-chat"

    def scaled(self, *layers: dict) -> dict:
        return render(*layers).get("ScaledObject", self.NAME)["spec"]

    def test_no_replicas_where_an_autoscaler_owns_them(self):
        for kind in ("keda", "hpa"):
            rendered = render(worker(autoscaling={"type": kind, "minReplicas": 1}))
            self.assertNotIn("replicas", rendered.get("Deployment", self.NAME)["spec"])
        self.assertIn("replicas", render().get("Deployment", self.NAME)["spec"])
        api = render({"api": {"autoscaling": {"enabled": True}}})
        self.assertNotIn("replicas", api.get("Deployment", "rel-overshot-api")["spec"])
        self.assertEqual(api.get("HorizontalPodAutoscaler", "rel-overshot-api")["spec"]["maxReplicas"], 10)

    def test_keda_asks_our_own_demand_and_goes_to_zero(self):
        spec = self.scaled(keda(), {"api": {"service": {"port": 81}}})
        self.assertEqual(spec["scaleTargetRef"]["name"], self.NAME)
        self.assertEqual((spec["minReplicaCount"], spec["maxReplicaCount"]), (0, 10))
        (trigger,) = spec["triggers"]
        self.assertEqual(trigger["type"], "metrics-api")
        self.assertEqual(trigger["metadata"]["url"], "http://rel-overshot-api.ns.svc:81/api/v1/pools/chat/demand")
        self.assertEqual(trigger["metadata"]["valueLocation"], "demand")
        self.assertEqual(trigger["metadata"]["activationTargetValue"], "0")
        self.assertNotIn("authenticationRef", trigger)

    def test_keda_bears_the_token_when_the_api_wants_one(self):
        rendered = render(keda(), SECRET, {"auth": {"scalerSecretKey": "scaler"}})
        (trigger,) = rendered.get("ScaledObject", self.NAME)["spec"]["triggers"]
        self.assertEqual(trigger["metadata"]["authMode"], "bearer")
        reference = trigger["authenticationRef"]["name"]
        secret = rendered.get("TriggerAuthentication", reference)["spec"]["secretTargetRef"]
        self.assertEqual(secret, [{"parameter": "token", "name": "tokens", "key": "scaler"}])

    def test_a_demand_that_cannot_be_read_does_not_shrink_the_fleet(self):
        fallback = self.scaled(keda(fallbackReplicas=4))["fallback"]
        self.assertEqual((fallback["replicas"], fallback["behavior"]), (4, "currentReplicasIfHigher"))

    def test_a_scale_down_is_slow_and_by_one(self):
        for kind, find in (("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")):
            spec = render(worker(autoscaling={"type": kind, "minReplicas": 1})).get(find, self.NAME)["spec"]
            behavior = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            down = behavior["scaleDown"]
            self.assertEqual(down["stabilizationWindowSeconds"], 300)
            self.assertEqual(down["policies"], [{"type": "Pods", "value": 1, "periodSeconds": 60}])

    def test_prometheus_as_a_trigger_does_not_take_a_dead_target_for_an_empty_queue(self):
        spec = self.scaled(keda(trigger="prometheus", prometheus={"serverAddress": "http://p:9090"}))
        metadata = spec["triggers"][0]["metadata"]
        self.assertEqual(metadata["ignoreNullValues"], "false")
        self.assertEqual(metadata["query"], 'max(overshot_demand{namespace="ns", pool="chat"})')
        own = self.scaled(keda(trigger="prometheus", prometheus={"serverAddress": "http://p:9090", "query": "up"}))
        self.assertEqual(own["triggers"][0]["metadata"]["query"], "up")

    def test_streams_as_triggers_are_summed_over_lanes_and_shards_by_their_length(self):
        spec = self.scaled(keda(trigger="redis-streams", redisStreams={"shards": 2}))
        streams = [trigger["metadata"]["stream"] for trigger in spec["triggers"]]
        lanes = ("suspect", "front", "high", "normal", "low")
        self.assertEqual(streams, [f"overshot:{{chat.{n}}}:q:{lane}" for n in (0, 1) for lane in lanes])
        self.assertEqual(spec["advanced"]["scalingModifiers"]["formula"].split(" + "), [t["name"] for t in spec["triggers"]])
        for trigger in spec["triggers"]:
            self.assertEqual(trigger["metadata"]["address"], "rel-overshot-redis.ns.svc:6379")
            # Lag is nil after a cancel, and pending entries say nothing at zero workers.
            self.assertFalse({"consumerGroup", "lagCount", "pendingEntriesCount"} & trigger["metadata"].keys())

    def test_the_lanes_are_those_of_the_queue(self):
        record = (ROOT / "crates/common/src/queue/scripts/lib/record.lua").read_text()
        lanes = re.findall(r":q:(\w+)", re.search(r"^local LANES = .*", record, re.M)[0])
        spec = self.scaled(keda(trigger="redis-streams"))
        told = [trigger["metadata"]["stream"].rsplit(":", 1)[1] for trigger in spec["triggers"]]
        self.assertEqual(sorted(told), sorted(lanes))

    def test_an_hpa_reads_the_demand_as_an_external_metric(self):
        spec = render(worker(autoscaling={"type": "hpa", "minReplicas": 2})).get("HorizontalPodAutoscaler", self.NAME)["spec"]
        metric = spec["metrics"][0]["external"]
        self.assertEqual(metric["metric"], {"name": "overshot_demand", "selector": {"matchLabels": {"pool": "chat"}}})
        self.assertEqual(metric["target"], {"type": "AverageValue", "averageValue": "6"})

    def test_the_deletion_cost_side_car_comes_with_its_rights_and_only_when_asked(self):
        plain = render()
        self.assertEqual(plain.all("Role"), [])
        self.assertEqual(len(plain.pod(self.NAME)["containers"]), 1)
        rendered = render(worker(podDeletionCost={"enabled": True}))
        pod = rendered.pod(self.NAME)
        self.assertIs(pod["automountServiceAccountToken"], True)
        self.assertEqual(pod["containers"][1]["name"], "deletion-cost")
        (role,), (binding,) = rendered.all("Role"), rendered.all("RoleBinding")
        self.assertEqual(role["rules"], [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]}])
        self.assertEqual(binding["subjects"][0]["name"], pod["serviceAccountName"])
        self.assertEqual(binding["roleRef"]["name"], role["metadata"]["name"])


@unittest.skipUnless(HELMS, "no helm")
class Surroundings(unittest.TestCase):
    def test_an_ingress_leads_to_the_api(self):
        hosts = {"enabled": True, "className": "nginx", "hosts": [{"host": "o.example"}], "tls": [{"secretName": "t"}]}
        spec = render({"api": {"ingress": hosts}}).get("Ingress", "rel-overshot-api")["spec"]
        self.assertEqual(spec["ingressClassName"], "nginx")
        self.assertEqual(spec["tls"], [{"secretName": "t"}])
        path = spec["rules"][0]["http"]["paths"][0]
        self.assertEqual((path["path"], path["pathType"]), ("/", "Prefix"))
        self.assertEqual(path["backend"]["service"], {"name": "rel-overshot-api", "port": {"name": "http"}})
        self.assertEqual(render().all("Ingress"), [])

    def test_a_disruption_budget_takes_either_bound(self):
        budget = render({"api": {"pdb": {"minAvailable": "50%"}}}).get("PodDisruptionBudget", "rel-overshot-api")["spec"]
        self.assertEqual(budget["minAvailable"], "50%")
        self.assertNotIn("maxUnavailable", budget)
        zero = render({"api": {"pdb": {"minAvailable": 0}}}).get("PodDisruptionBudget", "rel-overshot-api")["spec"]
        self.assertEqual(zero["minAvailable"], 0)
        self.assertEqual(render().get("PodDisruptionBudget", "rel-overshot-api")["spec"]["maxUnavailable"], 1)

    def test_network_policies_let_in_who_is_named(self):
        self.assertEqual(render().all("NetworkPolicy"), [])
        peer = [{"namespaceSelector": {"matchLabels": {"name": "gateway"}}}]
        rendered = render({"networkPolicy": {"enabled": True, "apiFrom": peer}})
        self.assertEqual(rendered.get("NetworkPolicy", "rel-overshot-api")["spec"]["ingress"][0]["from"], peer)
        self.assertNotIn("from", rendered.get("NetworkPolicy", "rel-overshot-worker")["spec"]["ingress"][0])
        self.assertEqual(len(rendered.get("NetworkPolicy", "rel-overshot-redis")["spec"]["ingress"][0]["from"]), 2)

    def test_egress_is_limited_to_dns_redis_the_collector_and_for_workers_providers(self):
        redis, providers, traces = ([{"ports": [{"port": port}]}] for port in (6380, 443, 4318))
        egress = {"enabled": True, "redis": redis, "providers": providers, "traces": traces}
        values = {"networkPolicy": {"enabled": True, "egress": egress}, "redis": {"url": "rediss://r:6380"}}
        rendered = render(values)
        api = rendered.get("NetworkPolicy", "rel-overshot-api")["spec"]
        workers = rendered.get("NetworkPolicy", "rel-overshot-worker")["spec"]
        self.assertEqual(api["policyTypes"], ["Ingress", "Egress"])
        self.assertEqual(api["egress"][1:], redis + traces)
        self.assertEqual(workers["egress"][1:], redis + traces + providers)

    def test_traces_go_to_the_collector_that_is_named_from_api_and_workers(self):
        on = {"endpoint": "http://otel:4318", "sampleRatio": 0.05, "headersSecret": "otel"}
        rendered = render({"traces": on})
        for name in ("rel-overshot-api", "rel-overshot-worker-chat"):
            env = rendered.env(name)
            self.assertEqual((env["OVERSHOT__TRACES__ENDPOINT"], env["OVERSHOT__TRACES__SAMPLE_RATIO"]), ("http://otel:4318", "0.05"))
            self.assertEqual(env["OTEL_EXPORTER_OTLP_HEADERS"], {"secretKeyRef": {"name": "otel", "key": "headers"}})
        off = render({"traces": {"headersSecret": "otel"}}).text
        self.assertNotIn("TRACES", off)
        self.assertNotIn("OTEL_", off)
        self.assertNotEqual(helm_template({"traces": {"endpoint": "otel:4317"}}).returncode, 0)

    def test_monitors_find_the_api_and_the_workers(self):
        on = {"enabled": True, "labels": {"release": "p"}, "interval": "7s", "relabelings": [{"action": "drop"}]}
        rendered = render({"metrics": {"serviceMonitor": on, "podMonitor": on}})
        service = rendered.get("ServiceMonitor", "rel-overshot-api")
        selected = rendered.get("Service", "rel-overshot-api")["metadata"]["labels"]
        self.assertLessEqual(service["spec"]["selector"]["matchLabels"].items(), selected.items())
        self.assertEqual(service["metadata"]["labels"]["release"], "p")
        pods = rendered.get("PodMonitor", "rel-overshot-worker")
        labels = rendered.get("Deployment", "rel-overshot-worker-chat")["spec"]["template"]["metadata"]["labels"]
        self.assertLessEqual(pods["spec"]["selector"]["matchLabels"].items(), labels.items())
        for endpoint in (service["spec"]["endpoints"][0], pods["spec"]["podMetricsEndpoints"][0]):
            self.assertEqual((endpoint["port"], endpoint["interval"]), ("http", "7s"))
            self.assertEqual(endpoint["relabelings"], [{"action": "drop"}])
        self.assertFalse({"ServiceMonitor", "PodMonitor"} & set(render().kinds()))

    def test_extra_objects_are_rendered(self):
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}"
        plain = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-map"}}
        names = render({"extraObjects": [text, plain]}).names("ConfigMap")
        self.assertLessEqual({"rel-text", "rel-map"}, set(names))


@unittest.skipUnless(HELMS, "no helm")
class Mistakes(unittest.TestCase):
    """What would install and then not work is refused, by name."""

    def refused(self, words: str, *layers: dict, trial: bool = True):
        for helm in HELMS:
            done = helm_template(merge(TRIAL if trial else {}, *layers), helm)
            self.assertNotEqual(done.returncode, 0, f"{helm} rendered it")
            self.assertIn(words, done.stderr)

    def test_without_a_redis_or_with_two(self):
        self.refused("exactly one of redis.url", trial=False)
        self.refused("exactly one of redis.url", {"redis": {"url": "redis://r"}})

    def test_a_password_in_a_value(self):
        self.refused("holds a password", {"redis": {"url": "redis://u:geheim@r:6379"}}, trial=False)
        named = {"redis": {"url": "redis://u:$(OVERSHOT_REDIS_PASSWORD)@r:6379"}}
        self.refused("set redis.passwordSecret", named, trial=False)

    def test_certificates_for_a_redis_without_tls(self):
        self.refused("redis.tls needs", {"redis": {"url": "redis://r:6379", "tls": {"caSecret": "a"}}}, trial=False)

    def test_a_pool_that_the_configuration_does_not_know(self):
        self.refused("no section [pools.asr]", {"pools": {"asr": {}}})
        self.refused("1 to 40 of a-z", {"pools": {"ASR": {}}})

    def test_a_scaler_that_could_not_work(self):
        self.refused("cannot scale to zero", worker(autoscaling={"type": "hpa"}))
        self.refused("greater than maxReplicas", worker(autoscaling={"minReplicas": 11}))
        self.refused("serverAddress", keda(trigger="prometheus"))
        tokens = [{"env": "TEAM", "existingSecret": "t", "key": "v"}]
        self.refused("set auth.scalerSecret", keda(), {"auth": {"tokenSecrets": tokens}})
        streams = keda(trigger="redis-streams")
        self.refused("redisStreams.metadata", streams, {"redis": {"url": "redis://r"}}, trial=False)

    def test_streams_do_not_scale_a_pool_whose_jobs_wait_outside_of_them(self):
        streams = keda(trigger="redis-streams")
        labelled = '[pools.chat]\nproviders = ["o"]\naffinity = "model"\n[providers.o]\nkind = "openai"'
        ollama = '[pools.chat]\nproviders = ["o"]\n[providers.o]\nkind = "ollama"\n'
        for config in (labelled, ollama):
            self.refused("in no stream", streams, {"config": config})
            render(keda(), {"config": config})
        for config in (ollama.replace("\n[prov", '\naffinity = "none"\n[prov'), '[pools.other]\naffinity = "model"\n' + labelled.replace("model", "none")):
            render(streams, {"config": config})

    def test_a_grace_shorter_than_the_drain(self):
        self.refused("must be longer", {"api": {"preStopSeconds": 20}})

    def test_an_ingress_for_nobody(self):
        self.refused("needs api.ingress.hosts", {"api": {"ingress": {"enabled": True}}})

    def test_a_misspelt_or_ill_typed_value(self):
        self.refused("replica", {"api": {"replica": 3}})
        self.refused("replicas", {"api": {"replicas": "3"}})
        self.refused("scaling", worker(scaling={}))
        self.refused("type", worker(autoscaling={"type": "vpa"}))


def everything() -> dict:
    """Values with everything on that can be on at the same time."""
    on = {"enabled": True}
    return {
        **copy.deepcopy(ASR),
        **SECRET,
        "redis": {"trial": {"enabled": True}},
        "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}],
        "providerSecrets": [{"env": "KEY", "existingSecret": "k", "key": "v"}],
        "api": {"autoscaling": on, "ingress": {**on, "hosts": [{"host": "o.example"}]}},
        "pools": {
            "chat": {"autoscaling": {"type": "keda"}, "podDeletionCost": on},
            "asr": {"autoscaling": {"type": "hpa", "minReplicas": 1}},
        },
        "networkPolicy": {**on, "egress": on},
        "metrics": {"serviceMonitor": on, "podMonitor": on, "dashboards": on, "prometheusRule": on},
    }


if __name__ == "__main__":
    unittest.main()
