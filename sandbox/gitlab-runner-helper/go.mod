module gitlab-ci-on-eci/sandbox/gitlab-runner-helper

go 1.26
