"""What must hold for everything that is rendered, each as a function that gives a sentence for every breach."""

from policies.addresses import (
    addresses_lead_to_services,
    certificates_name_what_clients_call,
    clients_outside_keep_their_address,
)
from policies.applications import (
    applications_leave_what_they_applied,
    custom_resources_wait_for_their_kind,
    data_of_production_is_not_removed_unasked,
    environments_follow_their_branch,
    operators_come_before_what_they_watch,
    syncs_repair_and_retry,
    what_autoscalers_own_is_ignored,
)
from policies.databases import databases_have_no_superuser_with_a_password, databases_outlive_drained_nodes
from policies.differences import environments_differ_only_where_allowed, production_regions_are_equal
from policies.existing import mounted_secrets_can_be_read, mounts_have_volumes, references_exist
from policies.namespaces import namespaces_are_restricted, quotas_admit_every_pod
from policies.pods import (
    containers_are_bounded,
    images_are_pinned,
    pods_are_restricted,
    pods_have_a_priority_and_are_spread,
    probes_find_what_a_restart_can_mend,
    rolling_updates_lose_no_pod,
)
from policies.ports import ports_match
from policies.projects import (
    applications_stay_in_their_project,
    cluster_kinds_are_listed_by_hand,
    the_project_allows_exactly_what_is_rendered,
    the_root_application_makes_only_projects_and_applications,
)
from policies.scaling import (
    clients_come_to_new_pods,
    disruption_budgets_let_one_pod_go,
    only_scaled_workloads_omit_replicas,
    scaling_bounds_leave_room,
    schedulers_are_never_scaled,
)
from policies.secrets import mutations_are_never_allowed_by_hand, no_secret_is_rendered
from policies.selectors import selectors_match
from policies.waves import (
    generated_config_maps_come_first,
    nothing_needs_a_later_wave,
    the_schema_comes_between_datastores_and_roles,
)
from rendered import Policy

POLICIES: tuple[Policy, ...] = (
    addresses_lead_to_services,
    applications_leave_what_they_applied,
    applications_stay_in_their_project,
    certificates_name_what_clients_call,
    clients_come_to_new_pods,
    clients_outside_keep_their_address,
    cluster_kinds_are_listed_by_hand,
    containers_are_bounded,
    custom_resources_wait_for_their_kind,
    data_of_production_is_not_removed_unasked,
    databases_have_no_superuser_with_a_password,
    databases_outlive_drained_nodes,
    disruption_budgets_let_one_pod_go,
    environments_differ_only_where_allowed,
    environments_follow_their_branch,
    generated_config_maps_come_first,
    images_are_pinned,
    mounted_secrets_can_be_read,
    mounts_have_volumes,
    mutations_are_never_allowed_by_hand,
    namespaces_are_restricted,
    no_secret_is_rendered,
    nothing_needs_a_later_wave,
    only_scaled_workloads_omit_replicas,
    operators_come_before_what_they_watch,
    pods_are_restricted,
    pods_have_a_priority_and_are_spread,
    ports_match,
    probes_find_what_a_restart_can_mend,
    production_regions_are_equal,
    quotas_admit_every_pod,
    references_exist,
    rolling_updates_lose_no_pod,
    scaling_bounds_leave_room,
    schedulers_are_never_scaled,
    selectors_match,
    syncs_repair_and_retry,
    the_project_allows_exactly_what_is_rendered,
    the_root_application_makes_only_projects_and_applications,
    the_schema_comes_between_datastores_and_roles,
    what_autoscalers_own_is_ignored,
)
