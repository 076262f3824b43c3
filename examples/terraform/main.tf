# Punctual as a stack of CloudFormation that Terraform keeps. First, `make package` writes build/.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 5.0" }
  }
}

variable "bucket" {
  description = "A bucket in the stack's Region, for the code and the template."
  type        = string
}

variable "package" {
  description = "The folder that `make package` has written."
  type        = string
  default     = "../../build"
}

variable "parameters" {
  description = "Parameters of template.yaml."
  type        = map(string)
  default     = {}
}

data "aws_s3_bucket" "package" {
  bucket = var.bucket
}

locals {
  code     = one(fileset(var.package, "punctual-*.zip"))
  template = one(fileset(var.package, "punctual-*.template.json"))
}

# The hash is in the key, so that new code is another key, which updates the stack.
resource "aws_s3_object" "code" {
  bucket = var.bucket
  key    = "${filesha256("${var.package}/${local.code}")}.zip"
  source = "${var.package}/${local.code}"
}

resource "aws_s3_object" "template" {
  bucket = var.bucket
  key    = "${filesha256("${var.package}/${local.template}")}.json"
  source = "${var.package}/${local.template}"
}

resource "aws_cloudformation_stack" "punctual" {
  name         = "punctual"
  template_url = "https://${data.aws_s3_bucket.package.bucket_regional_domain_name}/${aws_s3_object.template.key}"
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
  parameters   = merge(var.parameters, { CodeBucket = var.bucket, CodeKey = aws_s3_object.code.key })
}

output "input_topic_arn" {
  value = aws_cloudformation_stack.punctual.outputs["InputTopicArn"]
}

output "failure_topic_arn" {
  value = aws_cloudformation_stack.punctual.outputs["FailureTopicArn"]
}
