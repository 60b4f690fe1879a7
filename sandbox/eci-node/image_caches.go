package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

var (
	imageCacheResource = schema.GroupVersionResource{Group: "eci.alibabacloud.com", Version: "v1", Resource: "imagecaches"}
	definitionResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// ImageCaches plays ECI's image caches: those that people order as ImageCache objects, and those that ECI makes by
// itself beside a pod that found none.
type ImageCaches struct {
	client dynamic.Interface
	clock  PlayedClock
	build  time.Duration // played, until a cache is ready
	region string
	ctx    context.Context // of the whole program: caches are built until it ends

	mu    sync.Mutex
	ready []imageCache // oldest first
	seen  map[types.UID]string
}

type imageCache struct {
	id     string
	images []string
}

// NewImageCaches makes them; Run installs the custom resource and follows it.
func NewImageCaches(ctx context.Context, config *rest.Config, clock PlayedClock, build time.Duration, region string) (*ImageCaches, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &ImageCaches{ctx: ctx, client: client, clock: clock, build: build, region: region, seen: map[types.UID]string{}}, nil
}

// Run installs the definition where it is missing, and builds what is ordered until the context ends.
func (c *ImageCaches) Run(ctx context.Context) error {
	if err := c.install(ctx); err != nil {
		return fmt.Errorf("the ImageCache definition: %w", err)
	}
	factory := dynamicinformer.NewDynamicSharedInformerFactory(c.client, 0)
	informer := factory.ForResource(imageCacheResource).Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { c.order(ctx, object) },
		DeleteFunc: c.drop,
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	return nil
}

func (c *ImageCaches) install(ctx context.Context) error {
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(imageCacheManifest), &definition.Object); err != nil {
		return err
	}
	definitions := c.client.Resource(definitionResource)
	if _, err := definitions.Create(ctx, definition, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for {
		_, err := c.client.Resource(imageCacheResource).List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil || !apierrors.IsNotFound(err) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// order builds a cache that somebody has asked for.
func (c *ImageCaches) order(ctx context.Context, object any) {
	item, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	images, _, err := unstructured.NestedStringSlice(item.Object, "spec", "images")
	if err != nil {
		return
	}
	id, _, err := unstructured.NestedString(item.Object, "status", "imageCacheId")
	if err != nil || id == "" {
		id = newID("imc", c.region)
	}
	c.mu.Lock()
	c.seen[item.GetUID()] = id
	c.mu.Unlock()
	go c.make(ctx, item.GetName(), item.GetUID(), imageCache{id, images})
}

func (c *ImageCaches) make(ctx context.Context, name string, uid types.UID, made imageCache) {
	started := c.clock.Stamp()
	c.write(ctx, name, map[string]any{"phase": "Creating", "progress": "0%", "imageCacheId": made.id, "startTime": started,
		"lastUpdatedTime": started})
	for _, image := range made.images {
		if _, err := FindImage(image); err != nil {
			c.write(ctx, name, map[string]any{"phase": "Failed", "reason": err.Error(), "lastUpdatedTime": c.clock.Stamp()})
			return
		}
	}
	if c.clock.Sleep(ctx, c.build) != nil {
		return
	}
	c.mu.Lock()
	_, wanted := c.seen[uid]
	if wanted {
		c.ready = append(c.ready, made)
	}
	c.mu.Unlock()
	if wanted {
		c.write(ctx, name, map[string]any{"phase": "Ready", "progress": "100%", "lastUpdatedTime": c.clock.Stamp()})
	}
}

func (c *ImageCaches) write(ctx context.Context, name string, status map[string]any) {
	patch, err := json.Marshal(map[string]any{"status": status})
	if err == nil {
		_, err = c.client.Resource(imageCacheResource).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	}
	if err != nil && !gone(err) && ctx.Err() == nil {
		slog.Warn("an image cache's status was not written", "cache", name, "error", err)
	}
}

func (c *ImageCaches) drop(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	item, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.seen[item.GetUID()]
	delete(c.seen, item.GetUID())
	kept := []imageCache{}
	for _, ready := range c.ready {
		if ready.id != id {
			kept = append(kept, ready)
		}
	}
	c.ready = kept
}

// CreateBeside makes a cache of a pod's images by itself, as ECI does for a pod that found none; it returns its id.
func (c *ImageCaches) CreateBeside(images []string) string {
	made := imageCache{newID("imc", c.region), images}
	go func() {
		if c.clock.Sleep(c.ctx, c.build) != nil {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ready = append(c.ready, made)
	}()
	return made.id
}

// Match finds the cache that holds most of the images; the newest of equals. A named cache wins over all.
func (c *ImageCaches) Match(images []string, named string) (id string, held map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ready := range c.ready {
		found := heldImages(ready, images)
		if ready.id == named {
			return ready.id, found
		}
		if len(found) > 0 && len(found) >= len(held) && named == "" {
			id, held = ready.id, found
		}
	}
	return id, held
}

func heldImages(ready imageCache, images []string) map[string]bool {
	found := map[string]bool{}
	for _, cached := range ready.images {
		for _, image := range images {
			if fullImageName(cached) == fullImageName(image) {
				found[image] = true
			}
		}
	}
	return found
}
