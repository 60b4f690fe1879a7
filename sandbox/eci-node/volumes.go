package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Volumes puts the volumes of one pod into folders: what the cluster holds is written out, and an OSS bucket is a
// folder below Buckets that outlives the pod.
type Volumes struct {
	Objects ClusterObjects
	Folder  string   // the pod's own, removed with it
	Buckets string   // shared by all pods: <bucket>/<path>
	Known   []string // buckets that exist; empty means that every bucket does
	Facts   PodFacts
}

const (
	ossCSIDriver  = "ossplugin.csi.alibabacloud.com"
	ossFlexDriver = "alicloud/oss"
)

// MountError says which volume could not be made ready, in a kubelet's words.
type MountError struct {
	Volume string
	Cause  error
}

func (e MountError) Error() string { return fmt.Sprintf("volume %q: %v", e.Volume, e.Cause) }

func (e MountError) Unwrap() error { return e.Cause }

// Prepare returns the folder of each volume by its name.
func (v Volumes) Prepare(ctx context.Context) (map[string]string, error) {
	folders := map[string]string{}
	for _, volume := range v.Facts.pod.Spec.Volumes {
		folder, err := v.prepare(ctx, volume)
		if err != nil {
			return nil, MountError{volume.Name, err}
		}
		folders[volume.Name] = folder
	}
	return folders, nil
}

func (v Volumes) prepare(ctx context.Context, volume corev1.Volume) (string, error) {
	own := filepath.Join(v.Folder, volume.Name)
	namespace := v.Facts.pod.Namespace
	switch source := volume.VolumeSource; {
	case source.EmptyDir != nil:
		return own, makeFolder(own, 0o777)
	case source.ConfigMap != nil:
		object, err := v.Objects.ConfigMap(ctx, namespace, source.ConfigMap.Name, source.ConfigMap.Optional)
		if err != nil {
			return "", err
		}
		return own, v.write(own, configMapFiles(object), source.ConfigMap.Items, source.ConfigMap.DefaultMode,
			source.ConfigMap.Optional)
	case source.Secret != nil:
		object, err := v.Objects.Secret(ctx, namespace, source.Secret.SecretName, source.Secret.Optional)
		if err != nil {
			return "", err
		}
		return own, v.write(own, secretFiles(object), source.Secret.Items, source.Secret.DefaultMode,
			source.Secret.Optional)
	case source.DownwardAPI != nil:
		return own, v.writeDownward(own, source.DownwardAPI.Items, source.DownwardAPI.DefaultMode)
	case source.Projected != nil:
		return own, v.project(ctx, own, source.Projected)
	case source.PersistentVolumeClaim != nil:
		return v.claimed(ctx, source.PersistentVolumeClaim.ClaimName)
	case source.CSI != nil:
		secret, err := v.inlineSecret(ctx, source.CSI.NodePublishSecretRef)
		if err != nil {
			return "", err
		}
		return v.bucket(source.CSI.Driver, source.CSI.VolumeAttributes, secret)
	case source.FlexVolume != nil:
		secret, err := v.inlineSecret(ctx, source.FlexVolume.SecretRef)
		if err != nil {
			return "", err
		}
		return v.bucket(source.FlexVolume.Driver, source.FlexVolume.Options, secret)
	case source.NFS != nil:
		return v.share(source.NFS.Server, source.NFS.Path)
	case source.HostPath != nil:
		return "", fmt.Errorf("hostPath volumes are not supported on ECI")
	}
	return "", fmt.Errorf("this kind of volume is not supported on the practice node")
}

func (v Volumes) claimed(ctx context.Context, claim string) (string, error) {
	volume, err := v.Objects.Volume(ctx, v.Facts.pod.Namespace, claim)
	if err != nil {
		return "", err
	}
	switch source := volume.Spec.PersistentVolumeSource; {
	case source.CSI != nil:
		secret, err := v.referencedSecret(ctx, source.CSI.NodePublishSecretRef)
		if err != nil {
			return "", err
		}
		return v.bucket(source.CSI.Driver, source.CSI.VolumeAttributes, secret)
	case source.FlexVolume != nil:
		secret, err := v.referencedSecret(ctx, source.FlexVolume.SecretRef)
		if err != nil {
			return "", err
		}
		return v.bucket(source.FlexVolume.Driver, source.FlexVolume.Options, secret)
	case source.NFS != nil:
		return v.share(source.NFS.Server, source.NFS.Path)
	}
	return "", fmt.Errorf("persistentvolume %q has a source that ECI cannot mount", volume.Name)
}

func (v Volumes) inlineSecret(ctx context.Context, reference *corev1.LocalObjectReference) (map[string][]byte, error) {
	if reference == nil {
		return nil, nil
	}
	return v.referencedSecret(ctx, &corev1.SecretReference{Name: reference.Name, Namespace: v.Facts.pod.Namespace})
}

func (v Volumes) referencedSecret(ctx context.Context, reference *corev1.SecretReference) (map[string][]byte, error) {
	if reference == nil {
		return nil, nil
	}
	secret, err := v.Objects.Secret(ctx, reference.Namespace, reference.Name, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching NodePublishSecretRef %s/%s failed: %w", reference.Namespace, reference.Name, err)
	}
	return secret.Data, nil
}

// bucket is the folder that stands for an OSS mount. It fails where ossfs would: without a key, or without the bucket.
func (v Volumes) bucket(driver string, options map[string]string, secret map[string][]byte) (string, error) {
	if driver != ossCSIDriver && driver != ossFlexDriver {
		return "", fmt.Errorf("driver name %s not found in the list of registered CSI drivers", driver)
	}
	name := options["bucket"]
	if name == "" || options["url"] == "" {
		return "", fmt.Errorf("oss: bucket and url must not be empty")
	}
	if !hasAccess(options, secret) {
		return "", fmt.Errorf("oss: neither akId and akSecret nor a RAM role is given")
	}
	if len(v.Known) > 0 && !slices.Contains(v.Known, name) {
		return "", fmt.Errorf("ossfs: bucket %q does not exist at %s (NoSuchBucket)", name, options["url"])
	}
	folder := filepath.Join(v.Buckets, name, filepath.Clean("/"+options["path"]))
	return folder, makeFolder(folder, 0o777)
}

func hasAccess(options map[string]string, secret map[string][]byte) bool {
	if options["ramRole"] != "" || options["roleName"] != "" || options["authType"] != "" {
		return true
	}
	if options["akId"] != "" && options["akSecret"] != "" {
		return true
	}
	return len(secret["akId"]) > 0 && len(secret["akSecret"]) > 0
}

// share is the folder that stands for a NAS export.
func (v Volumes) share(server, path string) (string, error) {
	folder := filepath.Join(v.Buckets, ".nas", filepath.Base(server), filepath.Clean("/"+path))
	return folder, makeFolder(folder, 0o777)
}

func (v Volumes) project(ctx context.Context, folder string, projected *corev1.ProjectedVolumeSource) error {
	if err := makeFolder(folder, 0o755); err != nil {
		return err
	}
	namespace := v.Facts.pod.Namespace
	for _, source := range projected.Sources {
		var err error
		switch {
		case source.ServiceAccountToken != nil:
			var token string
			if token, err = v.Objects.Token(ctx, v.Facts.pod, source.ServiceAccountToken); err == nil {
				files := map[string][]byte{source.ServiceAccountToken.Path: []byte(token)}
				err = v.write(folder, files, nil, projected.DefaultMode, nil)
			}
		case source.ConfigMap != nil:
			var object *corev1.ConfigMap
			if object, err = v.Objects.ConfigMap(ctx, namespace, source.ConfigMap.Name, source.ConfigMap.Optional); err == nil {
				err = v.write(folder, configMapFiles(object), source.ConfigMap.Items, projected.DefaultMode,
					source.ConfigMap.Optional)
			}
		case source.Secret != nil:
			var object *corev1.Secret
			if object, err = v.Objects.Secret(ctx, namespace, source.Secret.Name, source.Secret.Optional); err == nil {
				err = v.write(folder, secretFiles(object), source.Secret.Items, projected.DefaultMode,
					source.Secret.Optional)
			}
		case source.DownwardAPI != nil:
			err = v.writeDownward(folder, source.DownwardAPI.Items, projected.DefaultMode)
		default:
			err = fmt.Errorf("this projected source is not supported on the practice node")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write puts files into a folder; items choose and rename them. The mode is given exactly, whatever the umask.
func (v Volumes) write(folder string, files map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	if err := makeFolder(folder, 0o755); err != nil {
		return err
	}
	if len(items) == 0 {
		for name, content := range files {
			if err := writeFile(folder, name, content, mode); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		content, ok := files[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("references non-existent key: %s", item.Key)
		}
		itemMode := mode
		if item.Mode != nil {
			itemMode = item.Mode
		}
		if err := writeFile(folder, item.Path, content, itemMode); err != nil {
			return err
		}
	}
	return nil
}

func (v Volumes) writeDownward(folder string, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	if err := makeFolder(folder, 0o755); err != nil {
		return err
	}
	for _, item := range items {
		var value string
		var err error
		if item.FieldRef != nil {
			value, err = v.Facts.Field(item.FieldRef.FieldPath)
		} else if item.ResourceFieldRef != nil {
			value, err = v.Facts.Resource(item.ResourceFieldRef, "")
		}
		if err != nil {
			return err
		}
		itemMode := mode
		if item.Mode != nil {
			itemMode = item.Mode
		}
		if err := writeFile(folder, item.Path, []byte(value), itemMode); err != nil {
			return err
		}
	}
	return nil
}

func configMapFiles(object *corev1.ConfigMap) map[string][]byte {
	files := map[string][]byte{}
	if object == nil {
		return files
	}
	for name, text := range object.Data {
		files[name] = []byte(text)
	}
	for name, content := range object.BinaryData {
		files[name] = content
	}
	return files
}

func secretFiles(object *corev1.Secret) map[string][]byte {
	if object == nil {
		return nil
	}
	return object.Data
}

func writeFile(folder, name string, content []byte, mode *int32) error {
	path := filepath.Join(folder, filepath.Clean("/"+name))
	if !strings.HasPrefix(path, folder) {
		return fmt.Errorf("file name %q leaves its volume", name)
	}
	permission := os.FileMode(0o644)
	if mode != nil {
		permission = os.FileMode(*mode)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, permission); err != nil {
		return err
	}
	return os.Chmod(path, permission)
}

func makeFolder(path string, mode os.FileMode) error {
	if err := os.MkdirAll(path, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// makeMissingFolder leaves alone what is there already, a file or a folder.
func makeMissingFolder(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return makeFolder(path, 0o755)
}
