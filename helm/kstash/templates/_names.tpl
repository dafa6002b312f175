{{- define "kstash.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 40 characters: a pod's number, `-headless`, `-reset-` and a revision come after it. */}}
{{- define "kstash.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "kstash.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kstash.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kstash.headless" -}}
{{ include "kstash.fullname" . }}-headless
{{- end }}

{{- define "kstash.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kstash.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of what works; pods of jobs have another component, so that no service or monitor selects them. */}}
{{- define "kstash.workerLabels" -}}
{{ include "kstash.selectorLabels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "kstash.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "kstash.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kstash.annotations" -}}
{{- with .Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kstash.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kstash.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "kstash.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* An image of one's own has a command; that of kstash alone has a word count to look at. */}}
{{- define "kstash.program" -}}
{{- .Values.program | default (ternary "kstash.apps.word_count:build" "" (eq .Values.image.repository "kstash")) }}
{{- end }}

{{/* Ports of the brokers, comma-separated: those of the addresses, unless they are given. */}}
{{- define "kstash.kafkaPorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.egress.kafkaPorts -}}{{- $ports = append $ports (int64 . | toString) -}}{{- end -}}
{{- if not $ports -}}
{{- range splitList "," .Values.kafka.bootstrapServers -}}
{{- $ports = append $ports (regexFind "[0-9]+$" (trim .) | default "9092") -}}
{{- end -}}
{{- end -}}
{{- join "," (uniq $ports) -}}
{{- end }}

{{- define "kstash.scheme" -}}
{{ ternary "HTTPS" "HTTP" (ne .Values.http.tls.secretName "") }}
{{- end }}

{{/* A number or a text as an environment variable shows it: helm reads large numbers as floats. */}}
{{- define "kstash.text" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end }}
