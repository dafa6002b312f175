"""The values of the chart: what each may be, and what it is for.

The schema and the README are made of it. A new value gets its line here; `python -m
deploy.make_chart` writes both anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
WORDS: Schema = {"type": "array", "items": {"type": "string"}}
QUANTITY: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
SECONDS: Schema = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
SCALAR: Schema = {"type": ["string", "integer", "boolean"]}
RULES: Schema = {"type": "object", "additionalProperties": {"type": "object"}}

OWNED = (
    "application_id",
    "bootstrap_servers",
    "instance_id",
    "kafka",
    "state_dir",
    "http_host",
    "http_port",
    "http_hosts_allowed",
    "http_token",
    "http_tls_certificate",
    "http_tls_key",
    "http_peers",
)
"""Settings that the chart itself makes of other values."""

CLIENT_SETTING = "^[a-z][a-z0-9.]*$"


def number(least: int = 0) -> Schema:
    """An integer of at least this."""
    return {"type": "integer", "minimum": least}


def choice(*values: str) -> Schema:
    """One of these."""
    return {"type": "string", "enum": list(values)}


def mounted(*sources: str) -> Schema:
    """Settings of the Kafka client whose value, or path, is a key of a Secret or ConfigMap."""
    properties = {name: {"type": "string", "minLength": 1} for name in sources}
    return {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": ["setting", "key"],
            "oneOf": [{"required": [name]} for name in sources],
            "properties": {
                "setting": {"type": "string", "pattern": CLIENT_SETTING},
                "key": {"type": "string", "minLength": 1},
                **properties,
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Value:
    """One value.

    Attributes:
        path: from the root, with dots.
        schema: what it may be.
        text: what it is for.
    """

    path: str
    schema: Schema
    text: str


VALUES = (
    Value("nameOverride", TEXT, "in place of the chart's name in labels and names"),
    Value("fullnameOverride", TEXT, "the whole name of all objects"),
    Value("commonLabels", TEXTS, "labels of all objects"),
    Value("commonAnnotations", TEXTS, "annotations of all objects"),
    # --- what runs
    Value(
        "image.repository",
        {"type": "string", "minLength": 1},
        "the application's image, built on that of kstash",
    ),
    Value("image.tag", TEXT, "its tag; empty: the chart's `appVersion`"),
    Value(
        "image.digest",
        {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "`sha256:…`, in place of a tag",
    ),
    Value("image.pullPolicy", choice("Always", "IfNotPresent", "Never"), "when it is pulled"),
    Value("imagePullSecrets", OBJECTS, "secrets for a private registry"),
    Value(
        "program",
        TEXT,
        "`MODULE:APP`, for `kstash run` and `kstash drain`; empty: the image's own command (of the "
        "image `kstash` itself: a word count)",
    ),
    Value(
        "applicationId",
        {"type": "string", "pattern": "^[a-zA-Z0-9._-]{0,100}$"},
        "`application_id`; empty: that of the program",
    ),
    Value("command", WORDS, "in place of the image's entry point (`tini`)"),
    Value("args", WORDS, "in place of `kstash run PROGRAM`"),
    Value("extraArgs", WORDS, "after `kstash run PROGRAM`, such as `--drop-store words`"),
    Value("replicaCount", number(), "workers; without effect when `autoscaling.enabled`"),
    Value(
        "partitions",
        number(),
        "of the largest input; autoscaling needs it, and gives no more replicas than that",
    ),
    # --- Kafka
    Value(
        "kafka.bootstrapServers", {"type": "string", "minLength": 1}, "`host:port`, comma-separated"
    ),
    Value(
        "kafka.settings",
        {
            "type": "object",
            "propertyNames": {"pattern": CLIENT_SETTING},
            "additionalProperties": SCALAR,
        },
        "settings of the Kafka client that are no secrets, such as `security.protocol`",
    ),
    Value(
        "kafka.secrets",
        mounted("secretName"),
        "secret ones, by reference: `{setting: sasl.password, secretName: NAME, key: KEY}`; read "
        "from a file, in no environment",
    ),
    Value(
        "kafka.files",
        mounted("secretName", "configMapName"),
        "settings that name a file: `{setting: ssl.ca.location, secretName: NAME, key: ca.crt}`, "
        "or with `configMapName`",
    ),
    Value(
        "settings",
        {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$", "not": {"enum": list(OWNED)}},
            "additionalProperties": SCALAR,
        },
        "settings of kstash by their names, such as `checkpoint_interval_ms`; an unknown one "
        "ends the start, with the nearest name",
    ),
    # --- state
    Value(
        "persistence.enabled",
        BOOLEAN,
        "a volume for each worker; false: state is fetched from the checkpoint store after each "
        "start of a pod",
    ),
    Value("persistence.size", QUANTITY, "of a volume: three times the state of one worker"),
    Value("persistence.storageClass", TEXT, "empty: the cluster's default"),
    Value("persistence.accessModes", WORDS, "of a volume"),
    Value("persistence.annotations", TEXTS, "of the claims"),
    Value(
        "persistence.retention.whenDeleted",
        choice("Retain", "Delete"),
        "what becomes of the volumes when the release is removed",
    ),
    Value(
        "persistence.retention.whenScaled",
        choice("Retain", "Delete"),
        "and of those of replicas that are scaled away",
    ),
    Value("persistence.ephemeralSizeLimit", QUANTITY, "of the state where there is no volume"),
    # --- life and death
    Value(
        "probes.startup.seconds",
        number(30),
        "how long a process may take to answer; a restore that goes on is progress, however long",
    ),
    Value("probes.startup.periodSeconds", number(1), "how often it is probed"),
    Value("probes.readiness.periodSeconds", number(1), "`/readyz`: all task groups are live"),
    Value("probes.readiness.timeoutSeconds", number(1), ""),
    Value("probes.readiness.failureThreshold", number(1), ""),
    Value(
        "probes.liveness.periodSeconds", number(1), "`/livez`: nothing that has work stands still"
    ),
    Value("probes.liveness.timeoutSeconds", number(1), ""),
    Value("probes.liveness.failureThreshold", number(1), ""),
    Value(
        "terminationGracePeriodSeconds",
        {"type": ["integer", "null"], "minimum": 1},
        "null: `shutdown_timeout_ms` and 25 s; less than that time and 15 s is refused",
    ),
    Value(
        "podManagementPolicy",
        choice("Parallel", "OrderedReady"),
        "all pods at once, or one after the other",
    ),
    Value("updateStrategy", OBJECT, "of the StatefulSet"),
    Value("minReadySeconds", number(), "of the StatefulSet"),
    Value("revisionHistoryLimit", number(), "of the StatefulSet"),
    Value(
        "podDisruptionBudget.enabled", BOOLEAN, "how many workers may be evicted at once is bounded"
    ),
    Value(
        "podDisruptionBudget.maxUnavailable",
        {"type": ["integer", "string"]},
        "a number, or a share such as `25%`",
    ),
    # --- HTTP
    Value("http.port", PORT, "of metrics, probes and the status page"),
    Value(
        "http.hostsAllowed",
        TEXT,
        "names that requests may be for, beside addresses: `http_hosts_allowed`",
    ),
    Value(
        "http.tokenSecret.name",
        TEXT,
        "Secret with the bearer token that requests must have, probes excepted; empty: none",
    ),
    Value("http.tokenSecret.key", {"type": "string", "minLength": 1}, "its key"),
    Value("http.tls.secretName", TEXT, "Secret with certificate and key for HTTPS; empty: HTTP"),
    Value(
        "http.tls.certificateKey", {"type": "string", "minLength": 1}, "the certificate's key there"
    ),
    Value("http.tls.keyKey", {"type": "string", "minLength": 1}, "the key's key there"),
    # --- watching
    Value(
        "metrics.monitor",
        choice("none", "pod", "service"),
        "a PodMonitor or ServiceMonitor of the Prometheus operator",
    ),
    Value("metrics.interval", SECONDS, "between scrapes"),
    Value("metrics.scrapeTimeout", SECONDS, "of a scrape"),
    Value("metrics.labels", TEXTS, "of the monitor, for Prometheus to select it by"),
    Value("metrics.tlsConfig", OBJECT, "of the monitor's endpoint"),
    Value(
        "metrics.relabelings",
        OBJECTS,
        "of the monitor's endpoint; rules and autoscaler need `namespace` and `job`",
    ),
    Value("metrics.metricRelabelings", OBJECTS, "of the monitor's endpoint"),
    Value(
        "prometheusRule.enabled",
        BOOLEAN,
        "the alerts of `files/alerts.yaml`, once for all releases that one Prometheus scrapes",
    ),
    Value("prometheusRule.labels", TEXTS, "of the PrometheusRule, for Prometheus to select it by"),
    Value(
        "prometheusRule.runbookUrl",
        TEXT,
        "where your copy of `docs/operating/runbook.md` is; empty: its path",
    ),
    Value("prometheusRule.disabled", WORDS, "alerts that are left out"),
    Value(
        "prometheusRule.overrides",
        RULES,
        "by alert: fields of its rule in place of ours, such as `KstashLag: {for: 30m}`",
    ),
    Value("prometheusRule.additionalRules", OBJECTS, "more rules"),
    Value(
        "dashboard.enabled",
        BOOLEAN,
        "a ConfigMap with the Grafana dashboard, once for all releases",
    ),
    Value("dashboard.labels", TEXTS, "by which Grafana's sidecar finds it"),
    Value("dashboard.annotations", TEXTS, "such as the folder"),
    Value("dashboard.namespace", TEXT, "empty: the release's"),
    # --- scaling
    Value("autoscaling.enabled", BOOLEAN, "a ScaledObject of KEDA"),
    Value("autoscaling.minReplicas", number(1), "never 0: the workers report the lag themselves"),
    Value("autoscaling.maxReplicas", number(1), "`partitions` at most"),
    Value(
        "autoscaling.lagPerReplica",
        number(1),
        "records of lag, all topics together, for which there is one replica",
    ),
    Value("autoscaling.prometheusAddress", TEXT, "of the Prometheus that scrapes the workers"),
    Value("autoscaling.query", TEXT, "in place of the total lag of this release"),
    Value("autoscaling.pollingInterval", number(1), "s"),
    Value(
        "autoscaling.scaleDownStabilizationSeconds",
        number(),
        "how long the lag must have been low; each step down moves task groups",
    ),
    Value("autoscaling.authenticationRef", OBJECT, "a TriggerAuthentication for Prometheus"),
    Value("autoscaling.annotations", TEXTS, "of the ScaledObject"),
    # --- where it runs
    Value(
        "resources",
        OBJECT,
        "of a worker: see Memory in docs/operating. A limit of CPU makes workers fall silent: "
        "better none",
    ),
    Value("topologySpread.enabled", BOOLEAN, "workers are spread"),
    Value("topologySpread.keys", WORDS, "over these"),
    Value("topologySpread.maxSkew", number(1), "most that two of them may differ by"),
    Value("topologySpread.whenUnsatisfiable", choice("ScheduleAnyway", "DoNotSchedule"), ""),
    Value("affinity", OBJECT, "of pods"),
    Value("nodeSelector", TEXTS, "of pods"),
    Value("tolerations", OBJECTS, "of pods"),
    Value("priorityClassName", TEXT, "of pods"),
    # --- rights
    Value("podSecurityContext", OBJECT, "not root, seccomp"),
    Value("securityContext", OBJECT, "read-only root file system, no capabilities"),
    Value("serviceAccount.create", BOOLEAN, "one of its own"),
    Value("serviceAccount.name", TEXT, "of one that exists, or of the one that is created"),
    Value("serviceAccount.annotations", TEXTS, "such as the role for an object store"),
    Value("serviceAccount.automountToken", BOOLEAN, "kstash asks Kubernetes nothing"),
    Value("networkPolicy.enabled", BOOLEAN, "in: only to the port of HTTP"),
    Value(
        "networkPolicy.ingressFrom",
        OBJECTS,
        "peers who may ask there, beside the other workers; empty: all",
    ),
    Value(
        "networkPolicy.egress.enabled",
        BOOLEAN,
        "out: only to Kafka, DNS, the other workers, and `extra`",
    ),
    Value(
        "networkPolicy.egress.kafkaPorts",
        {"type": "array", "items": PORT},
        "all ports that brokers are advertised under; empty: those of `kafka.bootstrapServers`",
    ),
    Value("networkPolicy.egress.kafkaTo", OBJECTS, "where the brokers are; empty: anywhere"),
    Value(
        "networkPolicy.egress.extra",
        OBJECTS,
        "more rules, such as to the object store of checkpoints",
    ),
    # --- more
    Value("podAnnotations", TEXTS, "of pods"),
    Value("podLabels", TEXTS, "of pods"),
    Value("extraEnv", OBJECTS, "more variables; a template"),
    Value("extraEnvFrom", OBJECTS, "ConfigMaps and Secrets with variables; a template"),
    Value("extraVolumes", OBJECTS, "more volumes; a template"),
    Value("extraVolumeMounts", OBJECTS, "and where they are mounted; a template"),
    Value("initContainers", OBJECTS, "before the worker, and before jobs; a template"),
    Value("extraContainers", OBJECTS, "beside the worker; a template"),
    Value(
        "extraObjects",
        {"type": "array", "items": {"type": ["object", "string"]}},
        "more objects; templates",
    ),
    # --- jobs
    Value(
        "drain.enabled",
        BOOLEAN,
        "a Job that runs `kstash drain` before an upgrade to a changed program; needs "
        "`replicaCount: 0`",
    ),
    Value(
        "drain.stateSizeLimit",
        QUANTITY,
        "of the state that it fetches: that of all tasks, in one pod",
    ),
    Value("drain.backoffLimit", number(), "of the Job"),
    Value("drain.ttlSecondsAfterFinished", number(), "of the Job"),
    Value("drain.activeDeadlineSeconds", number(1), "of the Job"),
    Value(
        "cleanup.enabled",
        BOOLEAN,
        "a Job that runs `kstash reset`: **deletes all that the application knows**; needs "
        "`replicaCount: 0` and `applicationId`",
    ),
    Value("cleanup.dryRun", BOOLEAN, "only print what would be deleted"),
    Value("cleanup.to", TEXT, "where the inputs begin afterwards: `earliest`, `latest`, or a time"),
    Value("cleanup.backoffLimit", number(), "of the Job"),
    Value("cleanup.ttlSecondsAfterFinished", number(), "of the Job"),
    Value("cleanup.activeDeadlineSeconds", number(1), "of the Job"),
)
