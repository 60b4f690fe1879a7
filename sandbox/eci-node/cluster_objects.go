package main

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ClusterObjects reads what a pod refers to: Secrets, ConfigMaps, claims, tokens. Errors are worded as a kubelet
// words them, since they end in events and in job logs.
type ClusterObjects struct{ client kubernetes.Interface }

// ConfigMap returns nil without an error where an optional object is missing.
func (o ClusterObjects) ConfigMap(ctx context.Context, namespace, name string, optional *bool) (*corev1.ConfigMap, error) {
	object, err := o.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if optional != nil && *optional {
			return nil, nil
		}
		return nil, fmt.Errorf("configmap %q not found", name)
	}
	return object, err
}

// Secret returns nil without an error where an optional object is missing.
func (o ClusterObjects) Secret(ctx context.Context, namespace, name string, optional *bool) (*corev1.Secret, error) {
	object, err := o.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if optional != nil && *optional {
			return nil, nil
		}
		return nil, fmt.Errorf("secret %q not found", name)
	}
	return object, err
}

// Volume finds the bound volume of a claim.
func (o ClusterObjects) Volume(ctx context.Context, namespace, claim string) (*corev1.PersistentVolume, error) {
	found, err := o.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, claim, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("persistentvolumeclaim %q not found", claim)
	}
	if err != nil {
		return nil, err
	}
	if found.Status.Phase != corev1.ClaimBound {
		return nil, fmt.Errorf("persistentvolumeclaim %q is not bound (phase %s)", claim, found.Status.Phase)
	}
	return o.client.CoreV1().PersistentVolumes().Get(ctx, found.Spec.VolumeName, metav1.GetOptions{})
}

// Token asks for a ServiceAccount token that is bound to the pod.
func (o ClusterObjects) Token(ctx context.Context, pod *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1",
			Name: pod.Name, UID: pod.UID},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	answer, err := o.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName,
		request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}
