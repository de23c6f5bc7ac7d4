{{- define "putgate.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "putgate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "putgate.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "putgate.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Of objects that belong to no namespace: releases of one name in several namespaces must not meet. */}}
{{- define "putgate.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "putgate.fullname" .) }}
{{- end }}

{{- define "putgate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "putgate.fullname" .) }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "putgate.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* What selects the operator's pods; immutable in a Deployment, so nothing of the values but names is in it. */}}
{{- define "putgate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "putgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "putgate.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "putgate.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "putgate"
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- toYaml (merge $own .Values.commonLabels) }}
{{- end }}

{{- define "putgate.operatorLabels" -}}
{{- toYaml (merge (dict "app.kubernetes.io/component" "operator") (include "putgate.labels" . | fromYaml)) }}
{{- end }}

{{- /* The namespaces that the operator looks after, as JSON; empty for all. */}}
{{- define "putgate.namespaces" -}}
{{- if .Values.operator.namespaces }}
{{- uniq .Values.operator.namespaces | toJson }}
{{- else if .Values.rbac.namespaced }}
{{- list .Release.Namespace | toJson }}
{{- else }}
{{- list | toJson }}
{{- end }}
{{- end }}

{{- /* What the operator may do where it looks after UploadBuckets: exactly the requests that it makes. */}}
{{- define "putgate.rules" -}}
- apiGroups: [putgate.io]
  resources: [uploadbuckets]
  verbs: [list, watch, patch]
- apiGroups: [putgate.io]
  resources: [uploadbuckets/status]
  verbs: [patch]
# To name an UploadBucket as an owner whose deletion waits for what it owns.
- apiGroups: [putgate.io]
  resources: [uploadbuckets/finalizers]
  verbs: [update]
# Server-side apply is a patch, and a create where nothing is yet.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Upload keys are made here and never read back.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# Whether the namespace is going away, and its uid for claims.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [{{ .Values.rbac.namespaced | ternary "get" "get, list, watch" }}]
{{- end }}
