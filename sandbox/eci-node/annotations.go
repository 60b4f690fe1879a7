package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotations that ECI reads on a pod, once, when the pod is created.
const (
	readUseSpecs        = "k8s.aliyun.com/eci-use-specs"
	readSpotStrategy    = "k8s.aliyun.com/eci-spot-strategy"
	readSpotDuration    = "k8s.aliyun.com/eci-spot-duration"
	readSpotFallback    = "k8s.aliyun.com/eci-spot-fallback"
	readSpotRelease     = "k8s.aliyun.com/eci-spot-release-strategy"
	readFailStrategy    = "k8s.aliyun.com/eci-fail-strategy"
	readMaxPending      = "k8s.aliyun.com/eci-max-pending-minute"
	readAutoImageCache  = "k8s.aliyun.com/eci-auto-imc"
	readImageCacheID    = "k8s.aliyun.com/eci-imc-id"
	readImageCacheOld   = "k8s.aliyun.com/eci-image-cache"
	readImageCacheIDOld = "k8s.aliyun.com/eci-image-snapshot-id"
	readComputeCategory = "k8s.aliyun.com/eci-compute-category"
)

// Annotations that ECI's virtual node writes on a pod.
const (
	writtenInstanceID    = "k8s.aliyun.com/eci-instance-id"
	writtenSpec          = "k8s.aliyun.com/eci-instance-spec"
	writtenCPU           = "k8s.aliyun.com/eci-instance-cpu"
	writtenMemory        = "k8s.aliyun.com/eci-instance-mem"
	writtenZone          = "k8s.aliyun.com/eci-instance-zone"
	writtenCategory      = "k8s.aliyun.com/eci-instance-compute-category"
	writtenRequestID     = "k8s.aliyun.com/eci-request-id"
	writtenClientToken   = "k8s.aliyun.com/eci-client-token"
	writtenVPC           = "k8s.aliyun.com/eci-vpc"
	writtenVSwitch       = "k8s.aliyun.com/eci-vswitch"
	writtenSecurityGroup = "k8s.aliyun.com/eci-security-group"
	writtenENI           = "k8s.aliyun.com/eni-instance-id"
	writtenMatchedCache  = "k8s.aliyun.com/eci-matched-image-cache"
	writtenByTemplate    = "k8s.aliyun.com/eci-created-by-template"
	writtenClusterDomain = "k8s.aliyun.com/cluster-domain"
	writtenK8sVersion    = "k8s.aliyun.com/k8s-version"
	writtenVKVersion     = "k8s.aliyun.com/vk-version"
	writtenProvider      = "ProviderCreate"
	writtenStreamPort    = "kubernetes.io/pod-stream-port"
)

// Variables by which a container speaks to ECI.
const (
	envResourceIgnore = "__ECI_RESOURCE_IGNORE__"
	envContainerType  = "ECI_CONTAINER_TYPE"
	envIgnoreExitCode = "ECI_CONTAINER_IGNORE_EXIT_CODE"
	envIgnoreReady    = "ECI_CONTAINER_IGNORE_READY"
)

// virtualKubeletVersion is the version of ACK's virtual node that is played.
const virtualKubeletVersion = "v2.13.0-practice"

const (
	defaultPending = 240 * time.Minute
	shortestLimit  = 10
	longestLimit   = 1440
	mostContainers = 20
	mostVolumes    = 20
)

// Order is what a pod's annotations ask of ECI.
type Order struct {
	Offers       []Offer // in the order in which they are tried
	Spot         bool
	Protection   time.Duration // during which a spot instance is not reclaimed
	SpotFallback bool
	FallbackTo   []Offer // pay-as-you-go sizes, where SpotFallback is set
	EvictFirst   bool    // api-evict: the pod is evicted when its release is announced
	FailFast     bool
	MaxPending   time.Duration
	AutoCache    bool
	CacheID      string
	Category     string
}

// ReadOrder reads and checks a pod's annotations.
func ReadOrder(pod *corev1.Pod, region string) (Order, error) {
	notes := pod.Annotations
	if containers := len(pod.Spec.Containers); containers > mostContainers || len(pod.Spec.Volumes) > mostVolumes {
		return Order{}, fmt.Errorf("an ECI instance has at most %d containers and %d volumes", mostContainers, mostVolumes)
	}
	order := Order{
		SpotFallback: notes[readSpotFallback] == "true",
		EvictFirst:   notes[readSpotRelease] == "api-evict",
		AutoCache:    notes[readAutoImageCache] != "false" && notes[readImageCacheOld] != "false",
		CacheID:      firstOf(notes[readImageCacheID], notes[readImageCacheIDOld]),
		Protection:   time.Hour,
		MaxPending:   defaultPending,
	}
	switch notes[readFailStrategy] {
	case "", "fail-back", "fail-over":
	case "fail-fast":
		order.FailFast = true
	default:
		return order, invalid(readFailStrategy, notes, "fail-back, fail-over or fail-fast")
	}
	switch notes[readSpotStrategy] {
	case "", "NoSpot":
	case "SpotAsPriceGo", "SpotWithPriceLimit":
		order.Spot = true
	default:
		return order, invalid(readSpotStrategy, notes, "NoSpot, SpotAsPriceGo or SpotWithPriceLimit")
	}
	if notes[readSpotDuration] == "0" {
		order.Protection = 0
	}
	if text := notes[readMaxPending]; text != "" {
		minutes, err := strconv.Atoi(text)
		if err != nil || minutes < shortestLimit || minutes > longestLimit {
			return order, invalid(readMaxPending, notes, fmt.Sprintf("a number from %d to %d", shortestLimit, longestLimit))
		}
		order.MaxPending = time.Duration(minutes) * time.Minute
	}
	return order.choose(pod, region)
}

// choose fills in the sizes: those of the first compute category that has one, where the pod names categories.
func (o Order) choose(pod *corev1.Pod, region string) (Order, error) {
	ladder := LadderOf(region, o.Spot)
	named := pod.Annotations[readComputeCategory]
	if named == "" {
		return o.fill(pod, ladder, LadderOf(region, false))
	}
	if o.Spot {
		return o, fmt.Errorf("InvalidParameter: a spot instance cannot have %s", readComputeCategory)
	}
	var problem error
	for _, category := range strings.Split(named, ",") {
		o.Category = strings.TrimSpace(category)
		within, known := ladder.Within(o.Category)
		if !known {
			return o, invalid(readComputeCategory, pod.Annotations, "economy or general")
		}
		chosen, err := o.fill(pod, within, within)
		if err == nil {
			return chosen, nil
		}
		problem = errors.Join(problem, fmt.Errorf("%s: %w", o.Category, err))
	}
	return o, problem
}

func (o Order) fill(pod *corev1.Pod, ladder, payAsYouGo Ladder) (Order, error) {
	var err error
	if o.Offers, err = Offers(pod, ladder); err != nil {
		return o, err
	}
	if o.Spot && o.SpotFallback {
		o.FallbackTo, err = Offers(pod, payAsYouGo)
	}
	return o, err
}

func invalid(key string, notes map[string]string, allowed string) error {
	return fmt.Errorf("InvalidParameter: annotation %s is %q, allowed is %s", key, notes[key], allowed)
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// Ticket is the identity of one ECI instance.
type Ticket struct{ InstanceID, RequestID, ClientToken, ENI string }

// regionCodes are the letters that Alibaba's ids of a region begin with.
var regionCodes = map[string]string{"cn-hangzhou": "bp1", "cn-shanghai": "uf6", "cn-beijing": "2ze", "cn-shenzhen": "wz9",
	"cn-zhangjiakou": "8vb", "ap-southeast-1": "t4n", "ap-northeast-1": "6we", "cn-hongkong": "j6c"}

func regionCode(region string) string {
	if code := regionCodes[region]; code != "" {
		return code
	}
	return "p0x"
}

// NewTicket draws fresh ids.
func NewTicket(region string) Ticket {
	return Ticket{
		InstanceID:  newID("eci", region),
		RequestID:   strings.ToUpper(newUUID()),
		ClientToken: newUUID(),
		ENI:         newID("eni", region),
	}
}

// created are the annotations that the virtual node writes once ECI has found room for the pod.
func (t Ticket) created(offer Offer, category, zone, region, serverVersion string) map[string]string {
	notes := map[string]string{
		writtenInstanceID: t.InstanceID, writtenRequestID: t.RequestID, writtenClientToken: t.ClientToken,
		writtenSpec: offer.Name(), writtenCPU: decimal(offer.Spec.VCPU), writtenMemory: decimal(offer.Spec.MemoryGiB),
		writtenZone: zone, writtenENI: t.ENI,
		writtenVPC:           "vpc-" + regionCode(region) + "practice0000000000",
		writtenSecurityGroup: "sg-" + regionCode(region) + "practice0000000000",
		writtenVSwitch:       "vsw-" + regionCode(region) + strings.ReplaceAll(zone, "-", ""),
		writtenByTemplate:    "true", writtenClusterDomain: "cluster.local", writtenK8sVersion: serverVersion,
		writtenVKVersion: virtualKubeletVersion, writtenProvider: "done", writtenStreamPort: "10250",
	}
	if category != "" {
		notes[writtenCategory] = category
	}
	return notes
}

const idLetters = "0123456789abcdefghijklmnopqrstuvwxyz"

func newID(kind, region string) string {
	var id strings.Builder
	for range 17 {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(idLetters)))) // never fails: crypto/rand ends the program
		id.WriteByte(idLetters[n.Int64()])
	}
	return kind + "-" + regionCode(region) + id.String()
}

func newUUID() string {
	text := randomHex(16)
	return text[:8] + "-" + text[8:12] + "-4" + text[13:16] + "-a" + text[17:20] + "-" + text[20:]
}
