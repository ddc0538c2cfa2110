"""What any HTTP service of ours needs: who asks, how often, how much, and how slowly."""
