{{/* Environment of everything that runs the program, workers and jobs alike. */}}
{{- define "kstash.environment" -}}
- name: KSTASH_BOOTSTRAP_SERVERS
  value: {{ .Values.kafka.bootstrapServers | quote }}
{{- with .Values.applicationId }}
- name: KSTASH_APPLICATION_ID
  value: {{ . | quote }}
{{- end }}
- name: KSTASH_STATE_DIR
  value: /var/lib/kstash
{{- if not (hasKey .Values.settings "log_format") }}
- name: KSTASH_LOG_FORMAT
  value: json
{{- end }}
{{- if not (hasKey .Values.settings "session_timeout_ms") }}
# A pod that is replaced keeps its tasks for so long: it is scheduled, and its volume moved, within that.
- name: KSTASH_SESSION_TIMEOUT_MS
  value: "45000"
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: KSTASH_{{ upper $name }}
  value: {{ include "kstash.text" $value | quote }}
{{- end }}
{{- range $name, $value := .Values.kafka.settings }}
- name: KSTASH_KAFKA__{{ upper $name | replace "." "_" }}
  value: {{ include "kstash.text" $value | quote }}
{{- end }}
{{- range .Values.kafka.secrets }}
- name: KSTASH_KAFKA__{{ upper .setting | replace "." "_" }}_FILE
  value: /run/secrets/kstash/{{ .setting }}/{{ .key }}
{{- end }}
{{- range .Values.kafka.files }}
- name: KSTASH_KAFKA__{{ upper .setting | replace "." "_" }}
  value: /run/secrets/kstash/{{ .setting }}/{{ .key }}
{{- end }}
{{- end }}

{{/* Environment of a worker alone. */}}
{{- define "kstash.workerEnvironment" -}}
- name: KSTASH_INSTANCE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: KSTASH_HTTP_HOST
  value: "0.0.0.0"
- name: KSTASH_HTTP_PORT
  value: {{ int64 .Values.http.port | quote }}
- name: KSTASH_HTTP_PEERS
  value: {{ include "kstash.headless" . }}.{{ .Release.Namespace }}.svc:{{ int64 .Values.http.port }}
{{- with .Values.http.hostsAllowed }}
- name: KSTASH_HTTP_HOSTS_ALLOWED
  value: {{ . | quote }}
{{- end }}
{{- if .Values.http.tokenSecret.name }}
- name: KSTASH_HTTP_TOKEN_FILE
  value: /run/secrets/kstash/http-token/{{ .Values.http.tokenSecret.key }}
{{- end }}
{{- if .Values.http.tls.secretName }}
- name: KSTASH_HTTP_TLS_CERTIFICATE
  value: /run/secrets/kstash/http/{{ .Values.http.tls.certificateKey }}
- name: KSTASH_HTTP_TLS_KEY
  value: /run/secrets/kstash/http/{{ .Values.http.tls.keyKey }}
{{- end }}
{{- end }}

{{/* Whole folders are mounted, not single files: those follow a secret that is changed. */}}
{{- define "kstash.secretMounts" -}}
{{- range concat .Values.kafka.secrets .Values.kafka.files }}
- name: {{ printf "kafka-%s" (.setting | replace "." "-") | trunc 63 }}
  mountPath: /run/secrets/kstash/{{ .setting }}
  readOnly: true
{{- end }}
{{- if .Values.http.tokenSecret.name }}
- name: http-token
  mountPath: /run/secrets/kstash/http-token
  readOnly: true
{{- end }}
{{- if .Values.http.tls.secretName }}
- name: http-tls
  mountPath: /run/secrets/kstash/http
  readOnly: true
{{- end }}
{{- end }}

{{- define "kstash.secretVolumes" -}}
{{- range concat .Values.kafka.secrets .Values.kafka.files }}
- name: {{ printf "kafka-%s" (.setting | replace "." "-") | trunc 63 }}
  {{- if .secretName }}
  secret:
    secretName: {{ .secretName }}
  {{- else }}
  configMap:
    name: {{ .configMapName }}
  {{- end }}
    defaultMode: 0440
    items:
      - key: {{ .key }}
        path: {{ .key }}
{{- end }}
{{- if .Values.http.tokenSecret.name }}
- name: http-token
  secret:
    secretName: {{ .Values.http.tokenSecret.name }}
    defaultMode: 0440
    items:
      - key: {{ .Values.http.tokenSecret.key }}
        path: {{ .Values.http.tokenSecret.key }}
{{- end }}
{{- if .Values.http.tls.secretName }}
- name: http-tls
  secret:
    secretName: {{ .Values.http.tls.secretName }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{/* What workers and jobs have in common about where they run. */}}
{{- define "kstash.podCommon" -}}
serviceAccountName: {{ include "kstash.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
