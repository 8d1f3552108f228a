{{/* The name of the chart's objects: the release name, with the chart name appended unless it already contains it. */}}
{{- define "image-pipeline.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* The start of the policies' names. With the namespace, because releases of one name may be in two namespaces. */}}
{{- define "image-pipeline.policyName" -}}
{{ include "image-pipeline.fullname" . }}.{{ .Release.Namespace }}
{{- end -}}

{{/* The selector labels of the operator's pod. Immutable in a Deployment: don't add labels that change. */}}
{{- define "image-pipeline.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "image-pipeline.labels" -}}
{{ include "image-pipeline.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The image of the operator and the consumers. */}}
{{- define "image-pipeline.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is empty. There is no public image: push your own. Build it with `make image`, tag and push it to a registry that the cluster can pull from, then install with --set image.repository=<registry>/<name> and --set image.tag=<tag>." -}}
{{- end -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels of all consumer pods. The operator sets them. */}}
{{- define "image-pipeline.consumerLabels" -}}
app.kubernetes.io/name: image-pipeline-consumer
app.kubernetes.io/managed-by: image-pipeline
{{- end -}}

{{/* The labels of the pod of `helm test`. */}}
{{- define "image-pipeline.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end -}}

{{- define "image-pipeline.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Complies with the Pod Security Standard "restricted". */}}
{{- define "image-pipeline.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "image-pipeline.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
