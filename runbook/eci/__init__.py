"""What Alibaba Cloud ECI charges for a pod, and what it reads from and writes on one."""
