# A machine image with Docker, the sign-in to ECR and the image of this version on it: machines work some minutes sooner.
# packer init .  (packer 1.7 and later),  packer build -var region=eu-central-1 -var image=ACCOUNT.dkr.ecr...:VERSION .

variable "region" {
  type = string
}

variable "image" {
  type        = string
  description = "The Docker image that is pulled into the machine image."
}

variable "instance_profile" {
  type        = string
  description = "The workers' profile of the stack: it may pull the image."
}

locals {
  registry = split("/", var.image)[0]
  stamp    = formatdate("YYYYMMDDhhmmss", timestamp())
}

source "amazon-ebs" "eo_assets" {
  ami_name             = "eo-assets-${local.stamp}"
  instance_type        = "m6i.large"
  region               = var.region
  ssh_username         = "ubuntu"
  iam_instance_profile = var.instance_profile

  source_ami_filter {
    filters = {
      name                = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    most_recent = true
    owners      = ["099720109477"] # Canonical
  }

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_size           = 30
    volume_type           = "gp3"
    throughput            = 125
    iops                  = 3000
    encrypted             = true
    delete_on_termination = true
  }

  tags = {
    "eo-assets:image" = var.image
  }
}

build {
  sources = ["source.amazon-ebs.eo_assets"]

  provisioner "shell" {
    inline = [
      "cloud-init status --wait",
      "sudo apt-get -qq update",
      "sudo DEBIAN_FRONTEND=noninteractive apt-get -qqy install docker.io amazon-ecr-credential-helper rsync",
      "sudo usermod -aG docker ubuntu",
      "mkdir -p ~/.docker",
      "echo '{\"credHelpers\": {\"${local.registry}\": \"ecr-login\"}}' > ~/.docker/config.json",
      "sudo -u ubuntu -g docker docker pull ${var.image}",
    ]
  }
}
