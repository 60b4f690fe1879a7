package main

import (
	"context"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Environment builds the variables of one container: the image's, the API server's address, envFrom, then env with
// $(NAME) expanded, and at last the values that ECI replaces by facts of the instance.
type Environment struct {
	objects   ClusterObjects
	facts     PodFacts
	apiServer string            // HOST:PORT inside the pod
	path      string            // PATH, where the image sets none
	instance  map[string]string // `__ECI_ID__` and its like -> real value
}

// Of returns NAME=VALUE lines, sorted; missing references are an error unless they are optional.
func (e Environment) Of(ctx context.Context, container corev1.Container, image Image) ([]string, error) {
	values := map[string]string{"PATH": e.path, "HOME": "/root", "HOSTNAME": podHostname(e.facts.pod)}
	for name, value := range image.Env {
		values[name] = value
	}
	if host, port, ok := strings.Cut(e.apiServer, ":"); ok {
		values["KUBERNETES_SERVICE_HOST"], values["KUBERNETES_SERVICE_PORT"] = host, port
		values["KUBERNETES_SERVICE_PORT_HTTPS"] = port
	}
	for _, source := range container.EnvFrom {
		if err := e.addAll(ctx, values, source); err != nil {
			return nil, err
		}
	}
	for _, variable := range container.Env {
		value, ok, err := e.value(ctx, container, variable, values)
		if err != nil {
			return nil, err
		}
		if ok {
			values[variable.Name] = value
		}
	}
	lines := make([]string, 0, len(values))
	for name, value := range values {
		if replaced, ok := e.instance[value]; ok {
			value = replaced
		}
		if value == "__CONTAINER_NAME__" {
			value = container.Name
		}
		lines = append(lines, name+"="+value)
	}
	sort.Strings(lines)
	return lines, nil
}

func (e Environment) addAll(ctx context.Context, values map[string]string, source corev1.EnvFromSource) error {
	namespace := e.facts.pod.Namespace
	if reference := source.ConfigMapRef; reference != nil {
		object, err := e.objects.ConfigMap(ctx, namespace, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return err
		}
		for key, value := range object.Data {
			values[source.Prefix+key] = value
		}
	}
	if reference := source.SecretRef; reference != nil {
		object, err := e.objects.Secret(ctx, namespace, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return err
		}
		for key, value := range object.Data {
			values[source.Prefix+key] = string(value)
		}
	}
	return nil
}

func (e Environment) value(ctx context.Context, container corev1.Container, variable corev1.EnvVar,
	known map[string]string) (string, bool, error) {
	source := variable.ValueFrom
	switch {
	case source == nil:
		return expand(variable.Value, known), true, nil
	case source.FieldRef != nil:
		value, err := e.facts.Field(source.FieldRef.FieldPath)
		return value, err == nil, err
	case source.ResourceFieldRef != nil:
		value, err := e.facts.Resource(source.ResourceFieldRef, container.Name)
		return value, err == nil, err
	case source.ConfigMapKeyRef != nil:
		reference := source.ConfigMapKeyRef
		object, err := e.objects.ConfigMap(ctx, e.facts.pod.Namespace, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return "", false, err
		}
		value, ok := object.Data[reference.Key]
		return keyOf(value, ok, "configmap", reference.Name, reference.Key, reference.Optional)
	case source.SecretKeyRef != nil:
		reference := source.SecretKeyRef
		object, err := e.objects.Secret(ctx, e.facts.pod.Namespace, reference.Name, reference.Optional)
		if err != nil || object == nil {
			return "", false, err
		}
		value, ok := object.Data[reference.Key]
		return keyOf(string(value), ok, "secret", reference.Name, reference.Key, reference.Optional)
	}
	return "", false, fmt.Errorf("variable %q has a source that is not known", variable.Name)
}

func keyOf(value string, found bool, kind, name, key string, optional *bool) (string, bool, error) {
	if found || (optional != nil && *optional) {
		return value, found, nil
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s %s", key, kind, name)
}

// expand replaces $(NAME) where NAME is known; $$ is a dollar, and an unknown $(NAME) stays as it is written.
func expand(text string, known map[string]string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		rest := text[i+1:]
		if rest[0] == '$' {
			out.WriteByte('$')
			i++
			continue
		}
		end := strings.IndexByte(rest, ')')
		if rest[0] != '(' || end < 0 {
			out.WriteByte('$')
			continue
		}
		value, ok := known[rest[1:end]]
		if !ok {
			value = "$" + rest[:end+1]
		}
		out.WriteString(value)
		i += end + 1
	}
	return out.String()
}

// expandAll expands the $(NAME)s of a command line with the container's own environment.
func expandAll(words, environment []string) []string {
	known := map[string]string{}
	for _, line := range environment {
		name, value, _ := strings.Cut(line, "=")
		known[name] = value
	}
	expanded := make([]string, len(words))
	for i, word := range words {
		expanded[i] = expand(word, known)
	}
	return expanded
}

func podHostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	return name[:min(len(name), 63)]
}
