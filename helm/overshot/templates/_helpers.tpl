{{/* Names, labels, and what the pods of API and workers have in common. */}}

{{- define "overshot.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "overshot.fullname" -}}
{{- $name := include "overshot.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- include "overshot.short" .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- include "overshot.short" .Release.Name -}}
{{- else -}}
{{- include "overshot.short" (printf "%s-%s" .Release.Name $name) -}}
{{- end -}}
{{- end -}}

{{/* A name cut to what Kubernetes takes; a hash keeps two that begin alike apart. */}}
{{- define "overshot.short" -}}
{{- if le (len .) 63 -}}{{ . }}{{- else -}}{{ . | trunc 54 | trimSuffix "-" }}-{{ . | sha256sum | trunc 8 }}{{- end -}}
{{- end -}}

{{/* The name of a component's objects: (list $ "api") or (list $ "worker-chat"). */}}
{{- define "overshot.component" -}}
{{- include "overshot.short" (printf "%s-%s" (include "overshot.fullname" (index . 0)) (index . 1)) -}}
{{- end -}}

{{/* What selectors go by: never changes within a release. (list $ "api") or (list $ "worker" "chat"). */}}
{{- define "overshot.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "overshot.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- if gt (len .) 2 }}
overshot/pool: {{ index . 2 | quote }}
{{- end }}
{{- end -}}

{{- define "overshot.labels" -}}
{{- $root := index . 0 -}}
{{ include "overshot.selector" . }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/part-of: overshot
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Without the versions, which would restart pods that run the same image. (list $ VALUES SELECTOR) */}}
{{- define "overshot.podLabels" -}}
{{ index . 2 }}
{{- range list (index . 0).Values.commonLabels (index . 1).podLabels }}
{{- with . }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "overshot.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "overshot.configMap" -}}
{{- .Values.existingConfigMap | default (include "overshot.component" (list . "config")) -}}
{{- end -}}

{{/* (list $ "api") */}}
{{- define "overshot.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.serviceAccount.create -}}
{{ include "overshot.component" . }}
{{- else -}}
{{ $root.Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* The values of a pool's workers: its own over the defaults. (list $ "chat") */}}
{{- define "overshot.worker" -}}
{{- $root := index . 0 -}}
{{- $own := index $root.Values.pools (index . 1) | default dict -}}
{{- mergeOverwrite (deepCopy $root.Values.worker) (deepCopy $own) | toYaml -}}
{{- end -}}

{{/* Where Redis is, and with which secrets. */}}
{{- define "overshot.redisEnv" -}}
{{- $redis := .Values.redis -}}
{{- if $redis.passwordSecret }}
- name: OVERSHOT_REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $redis.passwordSecret }}, key: {{ $redis.passwordSecretKey }}}}
{{- end }}
- name: OVERSHOT_REDIS_URL
{{- if $redis.existingSecret }}
  valueFrom: {secretKeyRef: {name: {{ $redis.existingSecret }}, key: {{ $redis.existingSecretKey }}}}
{{- else if $redis.url }}
  value: {{ $redis.url | quote }}
{{- else }}
  value: redis://{{ include "overshot.component" (list . "redis") }}:6379/0
{{- end }}
{{- if $redis.tls.caSecret }}
- {name: OVERSHOT_REDIS_CA_FILE, value: /etc/redis-ca/ca.crt}
{{- end }}
{{- if $redis.tls.clientSecret }}
- {name: OVERSHOT_REDIS_CERT_FILE, value: /etc/redis-client/tls.crt}
- {name: OVERSHOT_REDIS_KEY_FILE, value: /etc/redis-client/tls.key}
{{- end }}
{{- if $redis.allowUnsafe }}
- {name: OVERSHOT_ALLOW_UNSAFE_REDIS, value: "1"}
{{- end }}
{{- end -}}

{{- define "overshot.env" -}}
- {name: OVERSHOT_CONFIG, value: /etc/overshot/overshot.toml}
- {name: OVERSHOT_LOG, value: {{ .Values.log.filter | quote }}}
- {name: OVERSHOT_LOG_FORMAT, value: {{ .Values.log.format | quote }}}
{{- with .Values.traces }}
{{- if .endpoint }}
- {name: OVERSHOT__TRACES__ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OVERSHOT__TRACES__SAMPLE_RATIO, value: {{ .sampleRatio | quote }}}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ . }}, key: {{ $.Values.traces.headersSecretKey }}}}
{{- end }}
{{- end }}
{{- end }}
{{- include "overshot.redisEnv" . }}
{{- end -}}

{{/* Restarts the pods when the configuration changes. */}}
{{- define "overshot.checksum" -}}
{{- if not .Values.existingConfigMap -}}
checksum/config: {{ tpl .Values.config . | sha256sum }}
{{- end -}}
{{- end -}}

{{/* Everything in a pod's spec that is set the same way for both: (list $ VALUES SELECTOR). */}}
{{- define "overshot.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
{{- $selector := index . 2 -}}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints:
{{- range . }}
  - {{- toYaml . | nindent 4 }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels: {{- $selector | nindent 8 }}
    {{- end }}
{{- end }}
{{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "overshot.configMap" $root }}}
  - name: tmp
    emptyDir: {}
{{- with $root.Values.redis.tls }}
{{- if .caSecret }}
  - name: redis-ca
    secret: {secretName: {{ .caSecret }}, items: [{key: {{ .caSecretKey }}, path: ca.crt}]}
{{- end }}
{{- if .clientSecret }}
  - name: redis-client
    secret: {secretName: {{ .clientSecret }}}
{{- end }}
{{- end }}
{{- with $values.extraVolumes }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* The rest of a program's container: (list $ VALUES). */}}
{{- define "overshot.container" -}}
{{- $root := index . 0 -}}
{{- $values := index . 1 -}}
image: {{ include "overshot.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
{{- with $root.Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.extraEnvFrom }}
envFrom: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.livenessProbe }}
livenessProbe: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.readinessProbe }}
readinessProbe: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/overshot, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- with $root.Values.redis.tls }}
{{- if .caSecret }}
  - {name: redis-ca, mountPath: /etc/redis-ca, readOnly: true}
{{- end }}
{{- if .clientSecret }}
  - {name: redis-client, mountPath: /etc/redis-client, readOnly: true}
{{- end }}
{{- end }}
{{- with $values.extraVolumeMounts }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{/* Everything that would install and then not work is a mistake here. */}}
{{- define "overshot.validate" -}}
{{- $values := .Values -}}
{{- $redis := $values.redis -}}
{{- $places := 0 -}}
{{- range list $redis.url $redis.existingSecret $redis.trial.enabled }}{{- if . }}{{- $places = add1 $places }}{{- end }}{{- end }}
{{- if ne (int $places) 1 }}
{{- fail "set exactly one of redis.url, redis.existingSecret and redis.trial.enabled" }}
{{- end }}
{{- if and (contains "$(OVERSHOT_REDIS_PASSWORD)" $redis.url) (not $redis.passwordSecret) }}
{{- fail "redis.url names $(OVERSHOT_REDIS_PASSWORD): set redis.passwordSecret" }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^$/@][^/@]*@" $redis.url }}
{{- fail "redis.url holds a password, which `helm get values` shows: use redis.passwordSecret or redis.existingSecret" }}
{{- end }}
{{- if and (or $redis.tls.caSecret $redis.tls.clientSecret) (not $redis.existingSecret) (not (hasPrefix "rediss" $redis.url)) }}
{{- fail "redis.tls needs a redis.url of rediss://, rediss+cluster:// or rediss+sentinel://" }}
{{- end }}
{{- if le (int $values.api.terminationGracePeriodSeconds) (int (add $values.api.preStopSeconds 10)) }}
{{- fail "api.terminationGracePeriodSeconds must be longer than api.preStopSeconds and the 10 s of its drain" }}
{{- end }}
{{- if and $values.auth.tokenSecrets (not $values.auth.scalerSecret) (not $values.auth.existingSecret) }}
{{- range $pool, $_ := $values.pools }}
{{- $scaling := (include "overshot.worker" (list $ $pool) | fromYaml).autoscaling }}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "metrics-api") }}
{{- fail (printf "pools.%s: the API wants a token and KEDA has none: set auth.scalerSecret" $pool) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $values.api.ingress.enabled (not $values.api.ingress.hosts) }}
{{- fail "api.ingress.enabled needs api.ingress.hosts" }}
{{- end }}
{{- range $pool, $own := $values.pools }}
{{- if not (regexMatch "^[a-z0-9-]{1,40}$" $pool) }}
{{- fail (printf "pools.%s: a pool's name is 1 to 40 of a-z, 0-9 and -" $pool) }}
{{- end }}
{{- $section := printf "(?m)^\\s*\\[\\s*pools\\s*\\.\\s*[\"']?%s[\"']?\\s*[.\\]]" $pool }}
{{- if and (not $values.existingConfigMap) (not (regexMatch $section (tpl $values.config $))) }}
{{- fail (printf "pools.%s: config has no section [pools.%s]" $pool $pool) }}
{{- end }}
{{- $worker := include "overshot.worker" (list $ $pool) | fromYaml }}
{{- $scaling := $worker.autoscaling }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
{{- fail (printf "pools.%s: autoscaling.minReplicas is greater than maxReplicas" $pool) }}
{{- end }}
{{- if and (eq $scaling.type "hpa") (lt (int $scaling.minReplicas) 1) }}
{{- fail (printf "pools.%s: an HPA cannot scale to zero: set autoscaling.minReplicas to 1 or use keda" $pool) }}
{{- end }}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "prometheus") (not $scaling.keda.prometheus.serverAddress) }}
{{- fail (printf "pools.%s: set autoscaling.keda.prometheus.serverAddress" $pool) }}
{{- end }}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "redis-streams") (not $scaling.keda.redisStreams.metadata) (not $redis.trial.enabled) }}
{{- fail (printf "pools.%s: set autoscaling.keda.redisStreams.metadata" $pool) }}
{{- end }}
{{- if and (eq $scaling.type "keda") (eq $scaling.keda.trigger "redis-streams") (not $values.existingConfigMap) }}
{{- $config := tpl $values.config $ }}
{{- $own := regexFind (printf "(?ms)^\\s*\\[\\s*pools\\s*\\.\\s*[\"']?%s[\"']?\\s*\\].*?(^\\s*\\[|\\z)" $pool) $config }}
{{- $ollama := and (regexMatch "(?m)^\\s*kind\\s*=\\s*[\"']ollama[\"']" $config) (not (regexMatch "(?m)^\\s*affinity\\s*=\\s*[\"']none[\"']" $own)) }}
{{- if or $ollama (regexMatch "(?m)^\\s*affinity\\s*=\\s*[\"']model[\"']" $own) }}
{{- fail (printf "pools.%s: jobs that wait for their model's turn are in no stream: use the trigger metrics-api or prometheus, or set affinity = \"none\" in [pools.%s]" $pool $pool) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
