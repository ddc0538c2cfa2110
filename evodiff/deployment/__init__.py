"""What comes back from the deployment of a released architecture."""

from evodiff.deployment.feedback.deployment_feedback import DeploymentFeedback

__all__ = ["DeploymentFeedback"]
