"""The engine: evolution that knows nothing of what it evolves.

Ask and tell over any search space, multi-objective and constrained, with a ledger that a run can go on from exactly.
"""

from evodiff.engine.baselines import NSGA2, RandomSearch, RegularisedEvolution, Strategy
from evodiff.engine.candidate import Candidate, Evaluation, Failure, Objective, Trial, candidate_id, trial_id
from evodiff.engine.convergence import EvolutionMetrics, plateaued
from evodiff.engine.diversity import diversity_score
from evodiff.engine.evolution import Evolution
from evodiff.engine.fitness import FitnessBox
from evodiff.engine.history import GenerationResult, History
from evodiff.engine.ledger import Ledger
from evodiff.engine.prescreen import SurrogateSearch
from evodiff.engine.space import SearchSpace
from evodiff.engine.strategies import STRATEGIES
from evodiff.engine.transfer import Transferred, front_of_run
from evodiff.engine.variation import Proposal

__all__ = [
    "SearchSpace",
    "Candidate",
    "Trial",
    "Evaluation",
    "Failure",
    "Objective",
    "Evolution",
    "GenerationResult",
    "EvolutionMetrics",
    "FitnessBox",
    "Ledger",
    "Strategy",
    "STRATEGIES",
    "SurrogateSearch",
    "NSGA2",
    "RegularisedEvolution",
    "RandomSearch",
    "Proposal",
    "History",
    "Transferred",
    "front_of_run",
    "candidate_id",
    "trial_id",
    "diversity_score",
    "plateaued",
]
