package main

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// attempt is one size in one billing mode that is tried at the stock.
type attempt struct {
	offer    Offer
	spot     bool
	degraded bool // pay-as-you-go instead of spot
}

func (o Order) attempts() []attempt {
	attempts := []attempt{}
	for _, offer := range o.Offers {
		attempts = append(attempts, attempt{offer: offer, spot: o.Spot})
	}
	for _, offer := range o.FallbackTo {
		attempts = append(attempts, attempt{offer: offer, degraded: true})
	}
	return attempts
}

// schedule is ECI's state Scheduling: it looks for room until it is found, which costs nothing.
func (i *Instance) schedule(ctx context.Context) error {
	order, err := ReadOrder(i.pod, i.eci.Region)
	if err != nil {
		return i.refuse(err.Error())
	}
	i.mu.Lock()
	i.order = order
	i.mu.Unlock()
	if err := i.eci.Clock.Sleep(ctx, i.eci.Schedule); err != nil {
		return cause(ctx, err)
	}
	told := ""
	for {
		found, problem, ok := i.findRoom()
		if ok {
			i.take(found)
			return nil
		}
		if problem.event.Reason != told {
			i.tell(problem.event, problem.subject)
			told = problem.event.Reason
		}
		message := fmt.Sprintf(problem.event.Message, problem.subject)
		i.report(func(status *corev1.PodStatus, now metav1.Time) {
			setCondition(status, now, conditionCreated, corev1.ConditionFalse, problem.condition, message)
		})
		if order.FailFast {
			return i.refuse("ContainerInstanceScheduleFailed: " + message)
		}
		if err := i.eci.Clock.Sleep(ctx, i.eci.Retry); err != nil {
			return cause(ctx, err)
		}
	}
}

// refuse ends a pod that ECI takes no order for. Its phase is Failed only where it never restarts, as the
// virtual-kubelet library has it.
func (i *Instance) refuse(message string) ending {
	i.tell(eventCreateFailed, message)
	end := ending{phase: corev1.PodPending, reason: "ProviderFailed", message: message}
	if i.pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		end.phase = corev1.PodFailed
	}
	return end
}

// refusal is why there is no room.
type refusal struct {
	event     EventText
	condition string // reason of the condition ContainerInstanceCreated; ECI puts a prefix before it
	subject   string
}

func (i *Instance) findRoom() (attempt, refusal, bool) {
	quota, used := i.eci.Faults.quota(), i.eci.usedVCPU()
	problem := refusal{}
	names := []string{}
	for _, try := range i.order.attempts() {
		names = append(names, try.offer.Name())
		if quota > 0 && used+try.offer.Spec.VCPU > quota {
			problem = refusal{eventQuota, "ContainerGroup.QuotaExceeded", try.offer.Name()}
			continue
		}
		reason := i.eci.Faults.outOfStock(i.zone(), try.offer, try.spot)
		if reason == "" {
			return try, refusal{}, true
		}
		problem = refusal{refusalEvents[reason], "ContainerGroup." + reason, ""}
	}
	if problem.subject == "" {
		problem.subject = i.zone() + " [" + strings.Join(names, ",") + "]"
	}
	return attempt{}, problem, false
}

// take occupies the room that was found: the charge begins, and the pod learns its instance's identity.
func (i *Instance) take(found attempt) {
	ticket := NewTicket(i.eci.Region)
	offer := found.offer
	if found.spot && i.eci.SpotSpecECSType {
		offer = offer.asECSType()
	}
	i.mu.Lock()
	i.ticket, i.offer, i.spot, i.charged = ticket, offer, found.spot, true
	i.created = i.stamp().Time
	i.mu.Unlock()
	notes := ticket.created(offer, i.order.Category, i.zone(), i.eci.Region, i.eci.ServerVersion)
	condition := ""
	switch {
	case found.degraded:
		condition = "SpotDegraded"
		i.tell(eventSpotDegraded, i.order.Offers[0].Name())
	case offer.ByUser:
		i.tell(eventUserSpec, offer.Name())
	case offer.Spec != AskedSpec(i.pod):
		i.tell(eventMatchedSpec, offer.Name())
	}
	now := i.stamp()
	i.status.Change(func(status *corev1.PodStatus, annotations map[string]string) {
		maps.Copy(annotations, notes)
		status.HostIP, status.PodIP = i.address, i.address
		status.HostIPs = []corev1.HostIP{{IP: i.address}}
		status.PodIPs = []corev1.PodIP{{IP: i.address}}
		setCondition(status, now, conditionCreated, corev1.ConditionTrue, condition, "")
		setCondition(status, now, conditionDisk, corev1.ConditionTrue, "", "")
	})
	i.eci.Journal.Note(lineInstance, i)
}

func (i *Instance) zone() string { return strings.TrimPrefix(i.pod.Spec.NodeName, nodePrefix) }

// asECSType names the ECS type that a spot instance of this size would be matched to (assumed family 6).
func (o Offer) asECSType() Offer {
	families := map[float64]string{2: "c6", 4: "g6", 8: "r6"}
	family := families[o.Spec.MemoryGiB/o.Spec.VCPU]
	if o.ECSType != "" || family == "" {
		return o
	}
	size := "large"
	if times := int(o.Spec.VCPU) / 4; times == 1 {
		size = "xlarge"
	} else if times > 1 {
		size = fmt.Sprintf("%dxlarge", times)
	}
	o.ECSType = "ecs." + family + "." + size
	return o
}
