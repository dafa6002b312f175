{{/*
What cannot work is refused here, before anything is installed. Each message names the value and its fix.
*/}}
{{- define "kstash.shutdownSeconds" -}}
{{- $ms := int64 (dig "shutdown_timeout_ms" 20000 .Values.settings) -}}
{{- div (add $ms 999) 1000 -}}
{{- end }}

{{/* An orderly stop, checkpoints included, has shutdown_timeout_ms; its clients are closed after that. */}}
{{- define "kstash.graceLeast" -}}
{{- add (include "kstash.shutdownSeconds" .) 15 -}}
{{- end }}

{{- define "kstash.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "kstash.shutdownSeconds" .) 25 -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end }}

{{- define "kstash.guards" -}}
{{- if lt (int64 (include "kstash.grace" .)) (int64 (include "kstash.graceLeast" .)) -}}
{{- fail (printf "terminationGracePeriodSeconds is %s, and an orderly stop takes up to %s s: drain and checkpoint (settings.shutdown_timeout_ms), and 15 s to close clients. Raise it, or leave it out" (include "kstash.grace" .) (include "kstash.graceLeast" .)) -}}
{{- end -}}
{{- $partitions := int64 .Values.partitions -}}
{{- if .Values.autoscaling.enabled -}}
{{- if not .Values.autoscaling.prometheusAddress -}}
{{- fail "autoscaling.prometheusAddress is empty: KEDA asks a Prometheus for the lag, such as http://prometheus.monitoring:9090" -}}
{{- end -}}
{{- if and (eq .Values.metrics.monitor "none") (not .Values.autoscaling.query) -}}
{{- fail "autoscaling needs metrics.monitor (pod or service), whose `job` is the release's name, or an autoscaling.query of its own: without one the lag is not known" -}}
{{- end -}}
{{- if eq $partitions 0 -}}
{{- fail "autoscaling needs partitions, the number of partitions of the largest input: no more replicas than that have work" -}}
{{- end -}}
{{- if gt (int64 .Values.autoscaling.maxReplicas) $partitions -}}
{{- fail (printf "autoscaling.maxReplicas is %d, and the largest input has %d partitions (partitions): replicas beyond that have no work" (int64 .Values.autoscaling.maxReplicas) $partitions) -}}
{{- end -}}
{{- if gt (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %d, more than autoscaling.maxReplicas (%d)" (int64 .Values.autoscaling.minReplicas) (int64 .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.resources.limits (hasKey .Values.resources.limits "ephemeral-storage") (or .Values.drain.enabled (not .Values.persistence.enabled)) -}}
{{- fail (printf "resources.limits.ephemeral-storage is %v, and state on an emptyDir counts for it, so that the pod would be evicted: leave it out; %s bounds the state" (index .Values.resources.limits "ephemeral-storage") (ternary "drain.stateSizeLimit" "persistence.ephemeralSizeLimit" .Values.drain.enabled)) -}}
{{- end -}}
{{- if and .Values.http.tls.secretName (ne .Values.metrics.monitor "none") (not .Values.metrics.tlsConfig) -}}
{{- fail (printf "http.tls.secretName with metrics.monitor needs metrics.tlsConfig: Prometheus scrapes addresses of pods, which no certificate names. Give serverName (%s.%s.svc) and ca" (include "kstash.headless" .) .Release.Namespace) -}}
{{- end -}}
{{- range $name, $value := .Values.kafka.settings -}}
{{- if regexMatch "(password|secret|ssl\\.key\\.pem)$" $name -}}
{{- fail (printf "kafka.settings has %s, which everybody who may read the release would see: name a Secret in kafka.secrets instead" $name) -}}
{{- end -}}
{{- end -}}
{{- range $job := list "drain" "cleanup" -}}
{{- if and (index $.Values $job "enabled") (or $.Values.autoscaling.enabled (gt (int64 $.Values.replicaCount) 0)) -}}
{{- fail (printf "%s.enabled: the workers must be stopped before: set replicaCount to 0 and autoscaling.enabled to false" $job) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.drain.enabled .Values.cleanup.enabled -}}
{{- fail "drain.enabled and cleanup.enabled: one at a time" -}}
{{- end -}}
{{- if and .Values.drain.enabled (not (include "kstash.program" .)) -}}
{{- fail "drain.enabled needs program, the MODULE:APP that ran last" -}}
{{- end -}}
{{- if and .Values.cleanup.enabled (not .Values.applicationId) -}}
{{- fail "cleanup.enabled needs applicationId: whose topics, groups and checkpoints are to be deleted" -}}
{{- end -}}
{{- if and .Values.prometheusRule.overrides (not .Values.prometheusRule.enabled) -}}
{{- fail "prometheusRule.overrides has no effect without prometheusRule.enabled" -}}
{{- end -}}
{{- $known := list -}}
{{- range (fromYaml (.Files.Get "files/alerts.yaml")).groups -}}
{{- range .rules -}}{{- $known = append $known .alert -}}{{- end -}}
{{- end -}}
{{- range concat .Values.prometheusRule.disabled (keys .Values.prometheusRule.overrides) -}}
{{- if not (has . $known) -}}
{{- fail (printf "prometheusRule: there is no alert %s; there are %s" . (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- end }}
